// A painting as one file: a zip of document.json (its form below, by version), its SHA-256, and the
// pictures by theirs. What it shows is exported, not the way there.
import { strFromU8, strToU8, unzipSync, zipSync, type Zippable } from "fflate";
import { newId, sha256 } from "../api/hash";
import { HEX } from "../canvas/colour";
import type { Settings } from "../run/settings";
import { isSolver, isSpacing, type Solver, type Spacing } from "../run/solvers";
import { imagesOf, LARGEST, SMALLEST, type Content, type LayerKind, type Shown } from "./content";
import { begun } from "./history";
import type { Mark } from "./marks";
import type { Painting } from "./painting";
import { Fault, fields, flag, list, number, oneOf, optional, text, whole } from "./reader";

export const EXTENSION = ".sfumato";
const FORMAT = "sfumato painting";
const VERSION = 1;
const HASH = /^[0-9a-f]{64}$/;
const LARGEST_FILE = 256e6; // bytes, unpacked
const FAR = 1e5; // pixels that a point may be off the picture

export type Wrong = "foreign" | "newer" | "damaged";

/** A file that is no painting, one of a later version, or a damaged one. */
export class BadPainting extends Error {
  override name = "BadPainting";

  constructor(readonly wrong: Wrong, readonly detail: string) {
    super(detail);
  }
}

export async function exported(painting: Painting, pictures: ReadonlyMap<string, Blob>): Promise<Blob> {
  const { name, history, shown, settings } = painting;
  const json = strToU8(JSON.stringify({ format: FORMAT, version: VERSION, name, content: history.content, shown, settings }));
  const files: Zippable = {
    "document.json": json,
    "document.sha256": strToU8(await sha256(new Blob([json.slice()]))),
  };
  for (const hash of new Set(imagesOf(history.content))) {
    const blob = pictures.get(hash);
    if (blob) files[`pictures/${hash}.png`] = [new Uint8Array(await blob.arrayBuffer()), { level: 0 }];
  }
  const packed = zipSync(files, { level: 6, mtime: new Date(1980, 0, 1) });
  return new Blob([packed], { type: "application/zip" });
}

export async function imported(file: Blob): Promise<{ painting: Painting; pictures: Map<string, Blob> }> {
  const files = unpacked(new Uint8Array(await file.arrayBuffer()));
  const json = files["document.json"];
  if (!json) throw new BadPainting("foreign", "document.json is missing");
  const data = parsed(strFromU8(json));
  const kind = typeof data === "object" && data !== null ? { ...data } as Record<string, unknown> : {};
  if (kind["format"] !== FORMAT) throw new BadPainting("foreign", `format is not ${FORMAT}`);
  if (kind["version"] !== VERSION) throw new BadPainting("newer", `version ${String(kind["version"])}`);
  const sum = files["document.sha256"];
  if (!sum || strFromU8(sum).trim() !== (await sha256(new Blob([json.slice()])))) {
    throw new BadPainting("damaged", "document.json is not as it was written");
  }
  try {
    const painting = read(kind);
    return { painting, pictures: await picturesOf(painting.history.content, files) };
  } catch (error) {
    if (error instanceof Fault) throw new BadPainting("damaged", error.message);
    throw error;
  }
}

function unpacked(bytes: Uint8Array): Record<string, Uint8Array> {
  let total = 0;
  try {
    return unzipSync(bytes, {
      filter: ({ name, originalSize }) => {
        if (!/^(document\.(json|sha256)|pictures\/[0-9a-f]{64}\.png)$/.test(name)) return false;
        total += originalSize;
        if (total > LARGEST_FILE) throw new BadPainting("damaged", "it is larger than any painting");
        return true;
      },
    });
  } catch (error) {
    if (error instanceof BadPainting) throw error;
    const zip = bytes[0] === 0x50 && bytes[1] === 0x4b;
    throw new BadPainting(zip ? "damaged" : "foreign", error instanceof Error ? error.message : "no zip");
  }
}

function parsed(json: string): unknown {
  try {
    return JSON.parse(json);
  } catch {
    throw new BadPainting("damaged", "document.json is no JSON");
  }
}

async function picturesOf(content: Content, files: Record<string, Uint8Array>): Promise<Map<string, Blob>> {
  const found = new Map<string, Blob>();
  for (const hash of imagesOf(content)) {
    const bytes = files[`pictures/${hash}.png`];
    if (!bytes) throw new Fault(`picture ${hash.slice(0, 8)}: missing`);
    const blob = new Blob([bytes.slice()], { type: "image/png" });
    if ((await sha256(blob)) !== hash) throw new Fault(`picture ${hash.slice(0, 8)}: not as it was written`);
    found.set(hash, blob);
  }
  return found;
}

function read(data: unknown): Painting {
  const found = fields(data, "document", ["format", "version", "name", "content", "shown", "settings"]);
  const shown = fields(found["shown"], "shown", ["picture", "strokes", "mask", "reference"]);
  const layer = (kind: LayerKind): Shown => {
    const { visible, opacity } = fields(shown[kind], kind, ["visible", "opacity"]);
    return { visible: flag(visible, `${kind}.visible`), opacity: number(opacity, `${kind}.opacity`, 0, 1) };
  };
  return {
    id: newId(), name: text(found["name"], "name"), changed: Date.now(),
    history: begun(content(found["content"])),
    shown: { picture: layer("picture"), strokes: layer("strokes"), mask: layer("mask"), reference: layer("reference") },
    settings: settings(found["settings"]), runs: [],
  };
}

function content(data: unknown): Content {
  const names = ["width", "height", "picture", "reference", "strokes", "mask", "parents"];
  const found = fields(data, "content", names);
  const side = (name: string) => whole(found[name], name, SMALLEST, LARGEST);
  const image = (name: string) => optional(found[name], (value) => text(value, name, HASH));
  return {
    width: side("width"), height: side("height"), picture: image("picture"), reference: image("reference"),
    strokes: list(found["strokes"], "strokes", mark), mask: list(found["mask"], "mask", mark),
    parents: list(found["parents"], "parents", (value, at) => text(value, at, HASH)),
  };
}

function mark(data: unknown, at: string): Mark {
  const kind = typeof data === "object" && data !== null && "kind" in data ? data.kind : null;
  const id = newId(); // of this painting, whatever others have
  if (oneOf(kind, `${at}.kind`, ["stroke", "fill"]) === "stroke") {
    const found = fields(data, at, ["kind", "id", "points", "size", "color", "opacity", "erase"]);
    const points = list(found["points"], `${at}.points`, (value, place) => number(value, place, -FAR, FAR));
    if (points.length % 3 || !points.length) throw new Fault(`${at}.points: not three numbers a point`);
    return {
      kind: "stroke", id, points, size: number(found["size"], `${at}.size`, 0.1, 2 * LARGEST), color: colour(found, at),
      opacity: number(found["opacity"], `${at}.opacity`, 0, 1), erase: flag(found["erase"], `${at}.erase`),
    };
  }
  const found = fields(data, at, ["kind", "id", "spans", "color", "opacity"]);
  const spans = list(found["spans"], `${at}.spans`, (value, place) => whole(value, place, 0, LARGEST));
  if (spans.length % 3) throw new Fault(`${at}.spans: not three numbers a span`);
  return { kind: "fill", id, spans, color: colour(found, at), opacity: number(found["opacity"], `${at}.opacity`, 0, 1) };
}

function colour(found: Record<string, unknown>, at: string): string {
  return text(found["color"], `${at}.color`, HEX);
}

function spacing(value: unknown): Spacing {
  if (!isSpacing(value)) throw new Fault("settings.spacing: neither a name nor times");
  return value;
}

function solver(value: unknown): Solver {
  if (!isSolver(value)) throw new Fault("settings.solver: none that is known");
  return value;
}

/** A method's fields are checked by the server, whose schemas they are of. */
function settings(data: unknown): Settings {
  const names = ["method", "fields", "preset", "cards", "model", "prompt", "negative", "seed", "steps", "solver", "spacing", "count", "live", "adapters"];
  const given = typeof data === "object" && !Array.isArray(data) && data !== null ? { solver: null, spacing: null, ...data } : data; // older ones have none
  const found = fields(given, "settings", names);
  const values = (value: unknown, at: string) => {
    if (typeof value !== "object" || value === null || Array.isArray(value)) throw new Fault(`${at}: no object`);
    return { ...value };
  };
  const maybe = (name: string) => optional(found[name], (value) => text(value, `settings.${name}`));
  const count = (name: string, most: number) => whole(found[name], `settings.${name}`, 0, most);
  return {
    method: maybe("method"), fields: values(found["fields"], "settings.fields"), preset: maybe("preset"),
    cards: list(found["cards"], "settings.cards", (value, at) => {
      const card = fields(value, at, ["method", "fields"]);
      return { method: text(card["method"], `${at}.method`), fields: values(card["fields"], `${at}.fields`) };
    }),
    model: maybe("model"), prompt: text(found["prompt"], "settings.prompt"),
    negative: text(found["negative"], "settings.negative"),
    seed: optional(found["seed"], () => count("seed", Number.MAX_SAFE_INTEGER)),
    steps: optional(found["steps"], () => count("steps", 10_000)),
    solver: optional(found["solver"], solver), spacing: optional(found["spacing"], spacing), count: count("count", 10_000), live: flag(found["live"], "settings.live"),
    adapters: list(found["adapters"], "settings.adapters", (value, at) => {
      const adapter = fields(value, at, ["file", "sha256", "scale"]);
      return {
        file: text(adapter["file"], `${at}.file`), sha256: text(adapter["sha256"], `${at}.sha256`, HASH),
        scale: number(adapter["scale"], `${at}.scale`, -1000, 1000),
      };
    }),
  };
}
