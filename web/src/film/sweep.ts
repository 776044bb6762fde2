// A sweep as the server takes it: a field, its values, and the job that makes a film of them.

export interface Range {
  /** METHOD.FIELD, or steps. */
  field: string;
  low: number;
  high: number;
  count: number;
  /** Only whole numbers. */
  whole: boolean;
}

export const FEWEST = 2;
export const MOST = 25; // frames of a film

/** Evenly spaced values, each once, as the server would space them. */
export function values({ low, high, count, whole }: Range): number[] {
  const n = Math.max(FEWEST, Math.min(MOST, Math.round(count)));
  const spaced = Array.from({ length: n }, (_, k) => rounded(low + ((high - low) * k) / (n - 1), whole));
  return [...new Set(spaced)].sort((a, b) => a - b);
}

function rounded(value: number, whole: boolean): number {
  return whole ? Math.round(value) : Math.round(value * 1e4) / 1e4;
}

/** METHOD.FIELD=A,B,C as the server reads it. */
export function over(range: Range): string {
  return `${range.field}=${values(range).join(",")}`;
}

export interface Frame {
  value: number;
  /** Of its picture; null while it is not made. */
  sha256: string | null;
  job: string | null;
  state: "queued" | "running" | "done" | "failed";
}

interface Child {
  id: string;
  state: string;
  name: string;
  results: readonly { sha256: string; media_type: string }[];
}

/** Frames of a sweep of one prompt from its children, whose names say which value they are of. */
export function frames(sweep: readonly number[], children: readonly Child[]): Frame[] {
  const byPlace = new Map(children.map((child) => [placeOf(child.name), child]));
  return sweep.map((value, k) => {
    const child = byPlace.get(k);
    const picture = child?.results.find((file) => file.media_type.startsWith("image/"));
    const failed = child !== undefined && ["failed", "cancelled", "interrupted"].includes(child.state);
    const state = picture ? "done" : failed ? "failed" : child?.state === "running" ? "running" : "queued";
    return { value, sha256: picture?.sha256 ?? null, job: child?.id ?? null, state };
  });
}

/** pictures/PROMPT-VALUE-SEED.png, counted from 1. */
function placeOf(name: string): number {
  const found = /(\d+)-(\d+)-\d+\.\w+$/.exec(name);
  return found ? Number(found[2]) - 1 : -1;
}

/** Values that an `over` names. */
export function valuesOf(text: string): number[] {
  const spread = text.slice(text.indexOf("=") + 1);
  if (!spread.includes(":")) return spread.split(",").map(Number).sort((a, b) => a - b);
  const [low = 0, high = 1, count = 2] = spread.split(":").map(Number);
  return Array.from({ length: count }, (_, k) => Math.round((low + ((high - low) * k) / (count - 1)) * 1e6) / 1e6);
}

export interface Sweepable {
  field: string;
  title: string;
  low: number;
  high: number;
  whole: boolean;
}

type Schema = Record<string, unknown>;

function objects(value: unknown): Schema[] {
  return Array.isArray(value) ? value.filter((part) => typeof part === "object" && part !== null) : [];
}

/** Numbers among a method's fields, with the range that their schema gives or leaves open. */
export function sweepable(method: string, properties: Record<string, Schema>): Sweepable[] {
  return Object.entries(properties).flatMap(([name, schema]) => {
    const kinds = [schema, ...objects(schema["anyOf"])];
    const kind = kinds.find((part) => part["type"] === "number" || part["type"] === "integer");
    if (!kind) return [];
    const whole = kind["type"] === "integer";
    const start = typeof schema["default"] === "number" ? schema["default"] : null;
    const auto = Array.isArray(schema["auto"]) ? schema["auto"].map(Number) : [];
    const low = auto[0] ?? bound(kind, "inimum", start === null ? 0 : Math.min(0, start));
    const open = start === null ? 1 : Math.max(whole ? 10 : 1, 2 * start);
    const high = auto[1] ?? Math.min(bound(kind, "aximum", open), Math.max(open, low + 1));
    const title = typeof schema["title"] === "string" ? schema["title"] : name;
    return [{ field: `${method}.${name}`, title, low, high, whole }];
  });
}

/** minimum or exclusiveMinimum, maximum or exclusiveMaximum. */
function bound(kind: Schema, end: "inimum" | "aximum", otherwise: number): number {
  const inside = kind[`m${end}`];
  if (typeof inside === "number") return inside;
  const outside = kind[`exclusiveM${end}`];
  const nudge = end === "inimum" ? 0.01 : -0.01;
  return typeof outside === "number" ? outside + nudge : otherwise;
}
