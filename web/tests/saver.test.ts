import { expect, test } from "vitest";
import { newId } from "../src/api/hash";
import { marked, replaced, undone } from "../src/document/history";
import { freshPainting } from "../src/document/painting";
import { Saver } from "../src/document/saver";
import { Storage } from "../src/document/storage";

function tab(storage: Storage, painting = freshPainting("one", 64, 64), revision = 0) {
  const told: string[] = [];
  const state = { painting, pictures: new Map<string, Blob>() };
  const saver = new Saver(storage, revision, {
    painting: () => state.painting, pictures: state.pictures, thumbnail: async () => new Blob(["small"]),
    kept: (kept) => void told.push(kept ? "kept" : "waits"),
    copied: (id, name) => { told.push("copied"); state.painting = { ...state.painting, id, name }; },
    failed: (full) => void told.push(full ? "full" : "failed"),
  });
  const paint = async () => {
    const { history } = state.painting;
    const mark = { kind: "fill", id: newId(), spans: [0, 0, 4], color: "#000000", opacity: 1 } as const;
    state.painting = { ...state.painting, history: marked(history, "strokes", mark) };
    saver.save();
    await saver.finish();
  };
  return { saver, state, told, paint };
}

test("each change is kept, and a list's thumbnail writes nothing that is kept already", async () => {
  const storage = new Storage(newId());
  const one = tab(storage);
  await one.paint();
  await one.saver.picture();
  expect((await storage.read(one.state.painting.id))?.revision).toBe(2); // strokes first, then a thumbnail
  await one.paint();
  await one.saver.picture();
  expect((await storage.read(one.state.painting.id))?.revision).toBe(5);
  await one.saver.picture();
  expect((await storage.read(one.state.painting.id))?.revision).toBe(5);
  expect(one.told.at(-1)).toBe("kept");
});

test("strokes are kept before a thumbnail is drawn", async () => {
  const storage = new Storage(newId());
  const painting = marked(freshPainting("one", 64, 64).history, "strokes", {
    kind: "fill", id: newId(), spans: [0, 0, 4], color: "#000000", opacity: 1,
  });
  const kept = { ...freshPainting("one", 64, 64), history: painting };
  const drawn = new Promise<number>((resolve) => {
    const saver = new Saver(storage, 0, {
      painting: () => kept, pictures: new Map(), kept: () => undefined, copied: () => undefined, failed: () => undefined,
      thumbnail: async () => {
        resolve((await storage.read(kept.id))?.painting.history.content.strokes.length ?? 0);
        return new Blob(["small"]);
      },
    });
    saver.save();
  });
  expect(await drawn).toBe(1);
});

test("the second of two tabs that paint goes on as another painting", async () => {
  const storage = new Storage(newId());
  const one = tab(storage);
  await one.paint();
  const two = tab(storage, one.state.painting, 1);
  await one.paint();
  await two.paint();
  expect(two.told).toContain("copied");
  expect(one.told).not.toContain("copied");
  const names = (await storage.list()).map(({ name }) => name).sort();
  expect(names).toEqual(["one", "one (2)"]);
  expect((await storage.read(two.state.painting.id))?.painting.history).toEqual(two.state.painting.history);
});

test("what cannot be kept is said once, and kept with a later change", async () => {
  const storage = new Storage(newId());
  const one = tab(storage);
  await one.paint();
  const write = storage.write.bind(storage);
  storage.write = async () => { throw new DOMException("no room", "QuotaExceededError"); };
  await one.paint();
  await one.paint();
  expect(one.told.filter((word) => word === "full")).toHaveLength(1);
  expect(one.told.at(-1)).toBe("waits");
  storage.write = write;
  await one.paint();
  expect(one.told.at(-1)).toBe("kept");
  expect((await storage.read(one.state.painting.id))?.painting.history.content.strokes).toHaveLength(4);
});

const [HASH, OTHER] = ["1".repeat(64), "2".repeat(64)];

function place(state: ReturnType<typeof tab>["state"], hash: string): void {
  state.pictures.set(hash, new Blob([hash]));
  state.painting = { ...state.painting, history: replaced(state.painting.history, { picture: hash }) };
}

test("a picture that comes while another is written is kept too", async () => {
  const storage = new Storage(newId());
  const { saver, state } = tab(storage);
  const write = storage.write.bind(storage);
  storage.write = async (...given) => {
    const revision = await write(...given);
    if (!state.pictures.has(OTHER)) place(state, OTHER); // before the saver knows that it is done
    return revision;
  };
  place(state, HASH);
  saver.save();
  await saver.finish();
  saver.save();
  await saver.finish();
  expect([...((await storage.read(state.painting.id))?.pictures.keys() ?? [])].sort()).toEqual([HASH, OTHER]);
});

test("a picture that was undone and painted over goes, and may come again", async () => {
  const storage = new Storage(newId());
  const { saver, state, paint } = tab(storage);
  place(state, HASH);
  saver.save();
  await saver.finish();
  state.painting = { ...state.painting, history: undone(state.painting.history) };
  state.pictures.clear();
  await paint();
  place(state, HASH);
  state.pictures.clear(); // had it stayed, it would be found
  saver.save();
  await saver.finish();
  expect((await storage.read(state.painting.id))?.pictures.size).toBe(0);
  place(state, HASH);
  saver.save();
  await saver.finish();
  expect((await storage.read(state.painting.id))?.pictures.size).toBe(1);
});
