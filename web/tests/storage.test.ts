import { strFromU8, strToU8, unzipSync, zipSync } from "fflate";
import { beforeEach, describe, expect, test } from "vitest";
import { newId, sha256 } from "../src/api/hash";
import type { Content } from "../src/document/content";
import { BadPainting, exported, imported } from "../src/document/file";
import { marked, replaced, undone } from "../src/document/history";
import type { Mark } from "../src/document/marks";
import { freshPainting, type Painting } from "../src/document/painting";
import { ChangedElsewhere, Storage } from "../src/document/storage";

function stroke(id = newId()): Mark {
  return { kind: "stroke", id, points: [1, 2, 0.5, 3.25, 4, 1], size: 7.5, color: "#b5392f", opacity: 0.5, erase: false };
}

const fill: Mark = { kind: "fill", id: "fill", spans: [0, 1, 5, 1, 0, 64], color: "#102030", opacity: 1 };
const blob = new Blob([new Uint8Array([137, 80, 78, 71, 1, 2, 3])], { type: "image/png" });

/** A painting with something of everything. */
async function full(): Promise<{ painting: Painting; pictures: Map<string, Blob>; hash: string }> {
  const hash = await sha256(blob);
  const painting = freshPainting("Äpfel/사과", 96, 64);
  let { history } = painting;
  history = marked(marked(history, "strokes", stroke()), "mask", fill);
  history = replaced(history, { picture: hash, reference: hash, parents: [hash] });
  history = undone(marked(history, "strokes", stroke()));
  painting.history = history;
  painting.settings = { ...painting.settings, prompt: "red apple", seed: 7, fields: { t0: 0.4 }, cards: [{ method: "cfg", fields: { scale: 3 } }] };
  painting.shown.mask = { visible: false, opacity: 0.25 };
  painting.runs = ["job"];
  return { painting, pictures: new Map([[hash, blob]]), hash };
}

function without(content: Content) {
  const bare = ({ id: _, ...mark }: Mark) => mark;
  return { ...content, strokes: content.strokes.map(bare), mask: content.mask.map(bare) };
}

describe("a file", () => {
  test("gives back what a painting shows, with its settings", async () => {
    const { painting, pictures, hash } = await full();
    const { painting: read, pictures: found } = await imported(await exported(painting, pictures));
    expect(without(read.history.content)).toEqual(without(painting.history.content));
    expect([read.name, read.settings, read.shown]).toEqual([painting.name, painting.settings, painting.shown]);
    expect(read.id).not.toBe(painting.id);
    expect(read.runs).toEqual([]);
    expect(await found.get(hash)?.arrayBuffer()).toEqual(await blob.arrayBuffer());
  });

  test("is the same for the same painting", async () => {
    const { painting, pictures } = await full();
    const [a, b] = [await exported(painting, pictures), await exported(painting, pictures)];
    expect(await a.arrayBuffer()).toEqual(await b.arrayBuffer());
  });

  async function refused(file: Blob): Promise<string> {
    try {
      await imported(file);
    } catch (error) {
      if (error instanceof BadPainting) return error.wrong;
      throw error;
    }
    return "read";
  }

  test.each(["", "no zip at all", "PK"])("of foreign bytes (%j) is refused", async (text) => {
    expect(["foreign", "damaged"]).toContain(await refused(new Blob([text])));
  });

  test("that is another's zip is refused", async () => {
    expect(await refused(new Blob([zipSync({ "readme.txt": strToU8("hello") }).slice()]))).toBe("foreign");
    expect(await refused(new Blob([zipSync({ "document.json": strToU8('{"format":"other"}') }).slice()]))).toBe("foreign");
    expect(await refused(new Blob([zipSync({ "document.json": strToU8("[]") }).slice()]))).toBe("foreign");
    expect(await refused(new Blob([zipSync({ "document.json": strToU8("{") }).slice()]))).toBe("damaged");
  });

  test("that is cut short at any place, or has a byte changed, is refused or read as it was", async () => {
    const { painting, pictures } = await full();
    const bytes = new Uint8Array(await (await exported(painting, pictures)).arrayBuffer());
    for (let end = 0; end < bytes.length; end += 37) {
      expect(await refused(new Blob([bytes.slice(0, end)]))).not.toBe("read");
    }
    for (let at = 0; at < bytes.length; at += 11) {
      const changed = bytes.slice();
      changed[at] = (changed[at] ?? 0) ^ 0x55;
      try {
        const { painting: read } = await imported(new Blob([changed]));
        expect(without(read.history.content)).toEqual(without(painting.history.content));
      } catch (error) {
        expect(error).toBeInstanceOf(BadPainting);
      }
    }
  });

  async function altered(change: (document: Record<string, unknown> & { content: Record<string, unknown>; settings: Record<string, unknown> }) => void): Promise<Blob> {
    const { painting, pictures } = await full();
    const files = unzipSync(new Uint8Array(await (await exported(painting, pictures)).arrayBuffer()));
    const document = JSON.parse(strFromU8(files["document.json"] ?? new Uint8Array()));
    change(document);
    const json = strToU8(JSON.stringify(document));
    files["document.json"] = json;
    files["document.sha256"] = strToU8(await sha256(new Blob([json.slice()])));
    return new Blob([zipSync(files).slice()]);
  }

  test("that was written before there were solvers is read", async () => {
    expect(await refused(await altered((document) => delete document.settings["solver"]))).toBe("read");
    expect(await refused(await altered((document) => (document.settings["solver"] = { solver: "ddim", eta: 1 })))).toBe("read");
  });

  test("of a later version says so", async () => {
    expect(await refused(await altered((document) => (document["version"] = 2)))).toBe("newer");
  });

  const first = (document: { content: Record<string, unknown> }): Record<string, unknown> => {
    const { strokes } = document.content;
    return Array.isArray(strokes) ? strokes[0] : {};
  };

  test.each<[string, Parameters<typeof altered>[0]]>([
    ["an unknown field", (document) => (document["more"] = 1)],
    ["a missing field", (document) => delete document.content["mask"]],
    ["a size too large", (document) => (document.content["width"] = 5000)],
    ["a size that is no whole number", (document) => (document.content["height"] = 64.5)],
    ["a picture that is no hash", (document) => (document.content["picture"] = "../x")],
    ["a picture that is not there", (document) => (document.content["picture"] = "0".repeat(64))],
    ["a colour that is none", (document) => (first(document)["color"] = "red; background: url(x)")],
    ["points that are no triples", (document) => (first(document)["points"] = [1, 2])],
    ["points that are not numbers", (document) => (first(document)["points"] = [1, "2", 0.5])],
    ["points without end", (document) => (first(document)["points"] = [1e300, 2, 0.5])],
    ["a mark of no kind", (document) => (first(document)["kind"] = "text")],
    ["a brush of no size", (document) => (first(document)["size"] = -1)],
    ["settings of another kind", (document) => (document.settings["prompt"] = 7)],
    ["a solver of no kind", (document) => (document.settings["solver"] = { solver: "magic" })],
    ["a negative seed", (document) => (document.settings["seed"] = -1)],
  ])("with %s is damaged", async (_, change) => expect(await refused(await altered(change))).toBe("damaged"));
});

describe("this browser", () => {
  let storage: Storage;
  beforeEach(() => (storage = new Storage(newId())));

  test("gives back a painting with its history, pictures and runs", async () => {
    const { painting, pictures } = await full();
    expect(await storage.write(painting, 0, pictures, new Set(), null)).toBe(1);
    const read = await storage.read(painting.id);
    expect(read?.painting).toEqual(painting);
    expect([...(read?.pictures.keys() ?? [])]).toEqual([...pictures.keys()]);
  });

  test("writes a new stroke alone, and takes away one that can no longer come back", async () => {
    const { painting, pictures, hash } = await full();
    await storage.write(painting, 0, pictures, new Set(), null);
    const known = new Set([...painting.history.content.strokes, ...painting.history.content.mask].map(({ id }) => id));
    const [dropped] = painting.history.future.map((step) => (step.kind === "mark" ? step.mark.id : ""));
    const next = { ...painting, history: marked(painting.history, "strokes", stroke("new")) };
    await storage.write(next, 1, pictures, new Set([...known, dropped ?? "", hash]), null);
    expect((await storage.read(painting.id))?.painting.history).toEqual(next.history);
  });

  test("takes away a picture that no painting can show any more, and no other", async () => {
    const { painting, pictures, hash } = await full();
    await storage.write(painting, 0, pictures, new Set(), null);
    const other = { ...painting, id: newId() };
    await storage.write(other, 0, pictures, new Set(), null);
    const bare = { ...painting, history: freshPainting("", 96, 64).history };
    await storage.write(bare, 1, new Map(), new Set([hash]), null);
    expect((await storage.read(other.id))?.pictures.has(hash)).toBe(true);
    await storage.write({ ...bare, id: other.id }, 1, new Map(), new Set([hash]), null);
    await storage.write(painting, 2, new Map(), new Set(), null); // named, and not sent along
    expect((await storage.read(painting.id))?.pictures.has(hash)).toBe(false);
  });

  test("sweeps what a painting of another version has left", async () => {
    const { painting, pictures, hash } = await full();
    const bare = { ...painting, history: freshPainting("", 96, 64).history };
    await storage.write(bare, 0, pictures, new Set(), null);
    await storage.sweep();
    await storage.write(painting, 1, new Map(), new Set(), null);
    expect((await storage.read(painting.id))?.pictures.has(hash)).toBe(false);
  });

  test("does not write over what another tab has changed", async () => {
    const { painting, pictures } = await full();
    await storage.write(painting, 0, pictures, new Set(), null);
    await storage.write({ ...painting, name: "theirs" }, 1, pictures, new Set(), null);
    await expect(storage.write({ ...painting, name: "ours" }, 1, pictures, new Set(), null)).rejects.toThrow(ChangedElsewhere);
    expect((await storage.read(painting.id))?.painting.name).toBe("theirs");
  });

  test("lists paintings, the newest first, and keeps pictures that another one has", async () => {
    const { painting, pictures, hash } = await full();
    const other = { ...painting, id: newId(), name: "other", changed: painting.changed + 1 };
    await storage.write(painting, 0, pictures, new Set(), null);
    await storage.write(other, 0, pictures, new Set(), null);
    expect((await storage.list()).map(({ name }) => name)).toEqual(["other", painting.name]);
    await storage.remove(painting.id);
    expect(await storage.read(painting.id)).toBeNull();
    expect((await storage.read(other.id))?.pictures.has(hash)).toBe(true);
    expect((await storage.read(other.id))?.painting.history.content.strokes).toHaveLength(1);
  });
});
