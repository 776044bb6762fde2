// A film: which fields of the forms can change from frame to frame, through which values, and the
// frames that come of it. Numbers of methods are a sweep of the server's, which has a curve; all
// else is a batch with a row for each frame.
import { acting, type FormField } from "../forms/fields";
import type { Source } from "../run/settings";

export type Value = number | string | boolean | null | Source | readonly (number | string)[];

/** How values are given: from one number or several to others, of a list, or as lines of words. */
export type Shape = "numbers" | "choices" | "words" | "texts";

export interface Sweepable {
  /** METHOD.FIELD, or one of the run's own: prompt, steps, ... */
  field: string;
  title: string;
  shape: Shape;
  low: readonly number[];
  high: readonly number[];
  whole: boolean;
  choices: readonly Value[];
  /** Choices that are names of pictures of the painting. */
  pictures: boolean;
  /** Of words: what is there now. */
  now: string;
}

export interface Range extends Sweepable {
  low: number[];
  high: number[];
  count: number;
  /** Words, a value in each line. */
  lines: string;
}

export const FEWEST = 2;
export const MOST = 25; // frames of a film
const MARGIN = 16; // pixels by which a field of several grows where it has no bounds
const NUDGE = 0.01; // from a bound that is outside itself

/** Each value once, numbers evenly spaced as the server would space them. */
export function values(range: Range): Value[] {
  const all = range.shape === "numbers" ? spaced(range) : range.shape === "choices" ? [...range.choices] : told(range);
  const byText = new Map(all.map((value) => [JSON.stringify(value), value]));
  return [...byText.values()].slice(0, MOST);
}

function spaced({ low, high, count, whole }: Range): Value[] {
  const n = Math.max(FEWEST, Math.min(MOST, Math.round(count)));
  const all = Array.from({ length: n }, (_, k) =>
    low.map((from, j) => rounded(from + (((high[j] ?? from) - from) * k) / (n - 1), whole)),
  );
  if (low.length !== 1) return all;
  return all.flat().sort((a, b) => a - b);
}

function rounded(value: number, whole: boolean): number {
  return whole ? Math.round(value) : Math.round(value * 1e4) / 1e4;
}

/** Lines of words; of a field that takes several, they are parted by |. */
function told({ lines, shape }: Range): Value[] {
  const all = lines.split("\n").map((line) => line.trim()).filter((line) => line !== "");
  return shape === "words" ? all : all.map((line) => line.split("|").map((part) => part.trim()).filter((part) => part !== ""));
}

/** Whether the server sweeps it, and measures a curve: a number of a method, or the steps. */
export function measured({ field, shape, low }: Sweepable): boolean {
  return shape === "numbers" && low.length === 1 && (field === "steps" || field.includes(".")) && !field.startsWith("adapters.");
}

/** METHOD.FIELD=A,B,C as the server reads it. */
export function over(range: Range): string {
  return `${range.field}=${values(range).join(",")}`;
}

const LONGEST = 180; // characters of a row's name

/** What a row of a batch is called: its place, by which it is known again, the field and its value. */
export function rowName(place: number, field: string, value: Value): string {
  return `${place + 1}: ${field} = ${typeof value === "string" ? value : JSON.stringify(value)}`.slice(0, LONGEST);
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

/** Frames of a film of one prompt from its children, whose names say which place they have. */
export function frames(all: readonly Value[], children: readonly Child[]): Frame[] {
  const byPlace = new Map(children.map((child) => [placeOf(child.name), child]));
  return all.map((value, k) => {
    const child = byPlace.get(k);
    const picture = child?.results.find((file) => file.media_type.startsWith("image/"));
    const failed = child !== undefined && ["failed", "cancelled", "interrupted"].includes(child.state);
    const state = picture ? "done" : failed ? "failed" : child?.state === "running" ? "running" : "queued";
    return { value, sha256: picture?.sha256 ?? null, job: child?.id ?? null, state };
  });
}

/** Of pictures/PROMPT-VALUE-SEED.png of a sweep, or a row's name; counted from 1 there. */
function placeOf(name: string): number {
  const found = /^(\d+): /.exec(name) ?? /^pictures\/\d+-(\d+)-\d+\.\w+$/.exec(name);
  return found ? Number(found[1]) - 1 : -1;
}

/** Those fields of a method that do something now and can have more than one value. given: what they
 * have, with the preset's and the painting's. */
export function sweepable(method: string, fields: readonly FormField[], given: Record<string, unknown>): Sweepable[] {
  return acting(fields, given).flatMap((field) => {
    const now = given[field.name] ?? field.default;
    const part = rangeOf(field, now);
    if (part === null) return [];
    const words = Array.isArray(now) ? now.join(" | ") : typeof now === "string" ? now : "";
    return [sweepableOf(`${method}.${field.name}`, titleOf(field), { now: words, ...part })];
  });
}

/** A field that can be swept, of what is not as it mostly is. */
export function sweepableOf(field: string, title: string, part: Partial<Sweepable> & { shape: Shape }): Sweepable {
  return { field, title, low: [0], high: [1], whole: false, choices: [], pictures: false, now: "", ...part };
}

function titleOf(field: FormField): string {
  const words = field.name.replaceAll("_", " ");
  return words.charAt(0).toUpperCase() + words.slice(1);
}

function rangeOf(field: FormField, now: unknown): (Partial<Sweepable> & { shape: Shape }) | null {
  switch (field.kind) {
    case "number": case "integer": {
      const [low, high] = numbersOf(field);
      return { shape: "numbers", low: [low], high: [high], whole: field.whole };
    }
    case "window": case "numbers": return several(field, now);
    case "yesno": return { shape: "choices", choices: [false, true] };
    case "choice": return chosen(field.choices);
    case "weights": {
      const open = typeof field.default === "string" ? [field.default] : field.required ? [] : [null];
      return field.offered ? chosen([...open, ...field.offered]) : null;
    }
    case "text": return field.secret ? null : { shape: "words" };
    case "texts": return { shape: "texts" };
    case "image": {
      const sources: Source[] = ["guide", "picture", "reference"];
      return { ...chosen(field.required ? sources : [null, "mask", ...sources]), shape: "choices", pictures: true };
    }
    case "rows": case "other": return null;
  }
}

function chosen(choices: readonly Value[]): { shape: Shape; choices: readonly Value[] } | null {
  const all = [...new Set(choices)];
  return all.length > 1 ? { shape: "choices", choices: all } : null;
}

/** Where it is searched, else between its bounds, else around its default. */
function numbersOf(field: FormField): [number, number] {
  if (field.span) return [field.span[0], field.span[1]];
  const start = typeof field.default === "number" ? field.default : null;
  const low = field.min === null ? (start === null ? 0 : Math.min(0, start)) : field.min + (field.outside[0] ? NUDGE : 0);
  const open = start === null ? 1 : Math.max(field.whole ? 10 : 1, 2 * start);
  const most = field.max === null ? open : field.max - (field.outside[1] ? NUDGE : 0);
  return [low, Math.min(most, Math.max(open, low + 1))];
}

/** Several numbers: a window becomes its later half, others grow. */
function several(field: FormField, now: unknown): { shape: Shape; low: number[]; high: number[]; whole: boolean } {
  const given = Array.isArray(now) ? now.map(Number) : [];
  const low = Array.from({ length: field.length }, (_, k) => given[k] ?? (field.kind === "window" ? k : 0));
  const [first = 0, last = 1] = low;
  const high = field.kind === "window" ? [(first + last) / 2, last] : low.map((value) => value + MARGIN);
  return { shape: "numbers", low, high, whole: field.whole };
}
