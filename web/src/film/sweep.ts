// A film as the server makes it: of numbers a sweep, of choices a batch with a row for each.

export type Value = number | string | boolean;

export interface Range {
  /** METHOD.FIELD, or steps. */
  field: string;
  low: number;
  high: number;
  count: number;
  /** Only whole numbers. */
  whole: boolean;
  /** All that there is, of a field that is no number. */
  choices: readonly Value[] | null;
}

export const FEWEST = 2;
export const MOST = 25; // frames of a film

/** The choices, or evenly spaced numbers, each once, as the server would space them. */
export function values(range: Range): Value[] {
  return range.choices ? range.choices.slice(0, MOST) : spaced(range);
}

function spaced({ low, high, count, whole }: Range): number[] {
  const n = Math.max(FEWEST, Math.min(MOST, Math.round(count)));
  const all = Array.from({ length: n }, (_, k) => rounded(low + ((high - low) * k) / (n - 1), whole));
  return [...new Set(all)].sort((a, b) => a - b);
}

function rounded(value: number, whole: boolean): number {
  return whole ? Math.round(value) : Math.round(value * 1e4) / 1e4;
}

/** METHOD.FIELD=A,B,C as the server reads it. */
export function over(range: Range): string {
  return `${range.field}=${values(range).join(",")}`;
}

/** What a row of a batch is called: the field and its value, by which it is known again. */
export function rowName(field: string, value: Value): string {
  return `${field}=${value}`;
}

/** Field and values of a film from what was asked of the server. */
export function filmOf(request: { kind: string; over?: string; rows?: readonly { name?: string }[] }): { field: string; values: Value[] } | null {
  if (request.kind === "sweep" && request.over) return { field: fieldOf(request.over), values: valuesOf(request.over) };
  const names = (request.rows ?? []).map((row) => row.name ?? "");
  const field = fieldOf(names[0] ?? "");
  if (request.kind !== "batch" || !field || names.some((name) => fieldOf(name) !== field)) return null;
  return { field, values: names.map((name) => choice(name.slice(field.length + 1))) };
}

function fieldOf(text: string): string {
  return text.slice(0, Math.max(0, text.indexOf("=")));
}

function choice(text: string): Value {
  return text === "true" || text === "false" ? text === "true" : text;
}

export interface Frame {
  value: Value;
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

/** Frames of a film of one prompt from its children, whose names say which value they are of. */
export function frames(field: string, all: readonly Value[], children: readonly Child[]): Frame[] {
  const byPlace = new Map(children.map((child) => [placeOf(child.name), child]));
  const byName = new Map(children.map((child) => [child.name, child]));
  return all.map((value, k) => {
    const child = typeof value === "number" ? byPlace.get(k) : byName.get(rowName(field, value));
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
  choices: readonly Value[] | null;
}

type Schema = Record<string, unknown>;

function objects(value: unknown): Schema[] {
  return Array.isArray(value) ? value.filter((part) => typeof part === "object" && part !== null) : [];
}

/** A method's numbers, with the range that their schema gives or leaves open, its choices and switches. */
export function sweepable(method: string, properties: Record<string, Schema>): Sweepable[] {
  return Object.entries(properties).flatMap(([name, schema]): Sweepable[] => {
    const kinds = [schema, ...objects(schema["anyOf"])];
    const title = typeof schema["title"] === "string" ? schema["title"] : name;
    const choices = kinds.map(choicesOf).find((found) => found !== null);
    if (choices) return [{ field: `${method}.${name}`, title, low: 0, high: 1, whole: true, choices }];
    const kind = kinds.find((part) => part["type"] === "number" || part["type"] === "integer");
    if (!kind) return [];
    const whole = kind["type"] === "integer";
    const start = typeof schema["default"] === "number" ? schema["default"] : null;
    const auto = Array.isArray(schema["auto"]) ? schema["auto"].map(Number) : [];
    const low = auto[0] ?? bound(kind, "inimum", start === null ? 0 : Math.min(0, start));
    const open = start === null ? 1 : Math.max(whole ? 10 : 1, 2 * start);
    const high = auto[1] ?? Math.min(bound(kind, "aximum", open), Math.max(open, low + 1));
    return [{ field: `${method}.${name}`, title, low, high, whole, choices: null }];
  });
}

function choicesOf(schema: Schema): Value[] | null {
  if (schema["type"] === "boolean") return [false, true];
  const named = Array.isArray(schema["enum"]) ? schema["enum"].filter((one) => typeof one === "string") : [];
  return named.length > 1 ? named : null;
}

/** minimum or exclusiveMinimum, maximum or exclusiveMaximum. */
function bound(kind: Schema, end: "inimum" | "aximum", otherwise: number): number {
  const inside = kind[`m${end}`];
  if (typeof inside === "number") return inside;
  const outside = kind[`exclusiveM${end}`];
  const nudge = end === "inimum" ? 0.01 : -0.01;
  return typeof outside === "number" ? outside + nudge : otherwise;
}
