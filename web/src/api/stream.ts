// One stream of events for the whole browser: the tab that holds the lock reads it, and tells the
// others. Six streams would hold up every other request of a browser over HTTP/1.1. Where there are
// no locks (plain http from another machine) every tab has its own.
import { Reader, type Told } from "./events";

const QUIET = 40_000; // milliseconds without a word, of which the server says one every 15 s
const FIRST = 500; // milliseconds before it is tried again; twice as long each time
const LONGEST = 10_000;

export interface Means {
  /** Open the stream after the event that was seen last. */
  open(last: string | null, signal: AbortSignal): Promise<Response>;
  told(event: Told): void;
  /** It is open: whatever was missed that is not kept may be asked for. */
  opened(): void;
  broken(): void;
  channel: BroadcastChannel | null;
  locks: LockManager | null;
  name: string;
}

type Message = { kind: "event"; event: Told } | { kind: "opened" } | { kind: "broken" };

export class Stream {
  #last: string | null = null;
  #closing = new AbortController();
  #wake: (() => void) | null = null;
  #stale: (() => void) | null = null;
  #heard = 0;
  leads = false;

  constructor(private readonly means: Means) {
    const { channel } = means;
    if (channel) channel.onmessage = (message: MessageEvent<Message>) => this.#follow(message.data);
  }

  start(): void {
    const { locks, name } = this.means;
    const { signal } = this.#closing;
    if (locks === null) void this.#lead(false);
    else void locks.request(name, { signal }, () => this.#lead(true)).catch(() => undefined); // closed
  }

  close(): void {
    this.#closing.abort();
    this.#wake?.();
    this.means.channel?.close();
  }

  /** The page is seen again, or the network is back: a stream that has been silent is dead. */
  wake(): void {
    if (Date.now() - this.#heard > QUIET / 2) this.#stale?.();
    this.#wake?.();
  }

  #follow(message: Message): void {
    if (this.leads) return;
    if (message.kind === "event") this.#tell(message.event);
    else if (message.kind === "opened") this.means.opened();
    else this.means.broken();
  }

  #tell(event: Told): void {
    if (event.id !== null) {
      if (this.#last !== null && Number(event.id) <= Number(this.#last)) return; // seen
      this.#last = event.id;
    }
    this.means.told(event);
  }

  #say(message: Message): void {
    if (this.leads) this.means.channel?.postMessage(message);
  }

  async #lead(alone: boolean): Promise<void> {
    this.leads = alone;
    let wait = FIRST;
    while (!this.#closing.signal.aborted) {
      const heard = await this.#read();
      if (this.#closing.signal.aborted) return;
      this.means.broken();
      this.#say({ kind: "broken" });
      wait = heard ? FIRST : Math.min(2 * wait, LONGEST);
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, wait);
        this.#wake = () => { clearTimeout(timer); resolve(); };
      });
      this.#wake = null;
    }
  }

  /** Read until it breaks; whether it was open at all. */
  async #read(): Promise<boolean> {
    const broken = new AbortController();
    const close = () => broken.abort();
    this.#closing.signal.addEventListener("abort", close);
    this.#stale = close;
    let timer = setTimeout(close, QUIET);
    let open = false;
    try {
      const response = await this.means.open(this.#last, broken.signal);
      if (!response.body) return false;
      open = true;
      this.means.opened();
      this.#say({ kind: "opened" });
      const reader = new Reader();
      const parts = response.body.pipeThrough(new TextDecoderStream()).getReader();
      for (;;) {
        const { done, value } = await parts.read();
        if (done) return open;
        this.#heard = Date.now();
        clearTimeout(timer);
        timer = setTimeout(close, QUIET);
        for (const event of reader.read(value)) {
          this.#tell(event);
          this.#say({ kind: "event", event });
        }
      }
    } catch {
      return open; // broken; tried again by #lead
    } finally {
      clearTimeout(timer);
      broken.abort();
      this.#closing.signal.removeEventListener("abort", close);
    }
  }
}
