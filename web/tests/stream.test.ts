// Server-sent events, one stream of the browser, and how it comes back.
import { describe, expect, test, vi } from "vitest";
import { Reader, type Told } from "../src/api/events";
import { type Means, Stream } from "../src/api/stream";

describe("Reader", () => {
  test("parts may end anywhere", () => {
    const text = ': ping\n\nid: 7\nevent: step\ndata: {"a":\ndata: 1}\n\nevent: done\ndata: x\n\n';
    for (let cut = 0; cut <= text.length; cut++) {
      const reader = new Reader();
      const told = [...reader.read(text.slice(0, cut)), ...reader.read(text.slice(cut))];
      expect(told).toEqual([
        { id: "7", event: "step", data: '{"a":\n1}' }, { id: null, event: "done", data: "x" },
      ]);
    }
  });
});

/** A stream that a test writes to. */
class Wire {
  readonly opened: (string | null)[] = [];
  controller: ReadableStreamDefaultController<Uint8Array> | null = null;
  refuse = false;

  open = async (last: string | null, signal: AbortSignal): Promise<Response> => {
    this.opened.push(last);
    if (this.refuse) throw new TypeError("no network");
    return new Response(new ReadableStream<Uint8Array>({
      start: (controller) => {
        this.controller = controller;
        signal.addEventListener("abort", () => { try { controller.error(new Error("aborted")); } catch { /* closed */ } });
      },
    }));
  };

  say(id: number, data = "{}"): void {
    this.controller?.enqueue(new TextEncoder().encode(`id: ${id}\nevent: note\ndata: ${data}\n\n`));
  }

  cut(): void {
    this.controller?.error(new Error("cut"));
  }
}

function listening(wire: Wire, more: Partial<Means> = {}) {
  const told: Told[] = [];
  const states: string[] = [];
  const stream = new Stream({
    open: wire.open, told: (event) => told.push(event), opened: () => states.push("opened"),
    broken: () => states.push("broken"), channel: null, locks: null, name: "test", ...more,
  });
  stream.start();
  return { stream, told, states };
}

/** One lock, as Web Locks has it. */
class Locks {
  #queue: (() => void)[] = [];
  #held = false;

  async request(_: string, options: LockOptions, callback: LockGrantedCallback<void>): Promise<void> {
    if (this.#held) {
      await new Promise<void>((resolve, reject) => {
        this.#queue.push(resolve);
        options.signal?.addEventListener("abort", () => reject(new Error("aborted")));
      });
    }
    this.#held = true;
    try {
      await callback(null);
    } finally {
      this.#held = false;
      this.#queue.shift()?.();
    }
  }
}

describe("Stream", () => {
  test("comes back with the last event that was seen", async () => {
    const wire = new Wire();
    const { stream, told, states } = listening(wire);
    await vi.waitFor(() => expect(states).toEqual(["opened"]));
    wire.say(4);
    await vi.waitFor(() => expect(told).toHaveLength(1));
    wire.cut();
    await vi.waitFor(() => expect(states).toEqual(["opened", "broken"]));
    stream.wake();
    await vi.waitFor(() => expect(wire.opened).toEqual([null, "4"]));
    wire.say(4); // told twice
    wire.say(5);
    await vi.waitFor(() => expect(told.map((event) => event.id)).toEqual(["4", "5"]));
    stream.close();
  });

  test("a network that is gone is tried again and again", async () => {
    const wire = new Wire();
    wire.refuse = true;
    const { stream, states } = listening(wire);
    await vi.waitFor(() => expect(states).toEqual(["broken"]));
    stream.wake();
    await vi.waitFor(() => expect(wire.opened).toHaveLength(2));
    wire.refuse = false;
    await vi.waitFor(() => expect(states.at(-1)).toBe("broken"));
    stream.wake();
    await vi.waitFor(() => expect(states.at(-1)).toBe("opened"), 3000);
    stream.close();
  });

  test("one of two tabs reads, the other is told, and takes over where it was", async () => {
    const wire = new Wire();
    const locks = new Locks() as unknown as LockManager; // the part of it that a stream uses
    const first = listening(wire, { locks, channel: new BroadcastChannel("two") });
    const second = listening(wire, { locks, channel: new BroadcastChannel("two") });
    await vi.waitFor(() => expect(first.states).toEqual(["opened"]));
    wire.say(1);
    await vi.waitFor(() => expect(second.told).toHaveLength(1));
    expect(wire.opened).toHaveLength(1);
    expect([first.stream.leads, second.stream.leads]).toEqual([true, false]);
    first.stream.close();
    await vi.waitFor(() => expect(wire.opened).toEqual([null, "1"]));
    wire.say(2);
    await vi.waitFor(() => expect(second.told.map((event) => event.id)).toEqual(["1", "2"]));
    expect(first.told).toHaveLength(1);
    second.stream.close();
  });
});
