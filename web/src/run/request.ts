// The job that a document's settings ask for: its pictures are sent first, then named by hash.
import { api, type JobRequest, type MethodInfo } from "../api/client";
import { t } from "../i18n/index.svelte";
import { acting, fieldsOf, type FormField } from "../forms/fields";
import { sourceOf } from "../forms/sources";
import type { Desk } from "./desk";
import { Missing, obstacle } from "./offered";
import type { Card, Source } from "./settings";
import { SPACINGS } from "./solvers";

type Recipe = Extract<JobRequest, { kind: "recipe" }>["recipe"];
type Entry = Record<string, unknown>;

const LIVE = { steps: 6, stages: 1 };

/** live: a sketch while one paints. */
export interface Wanted {
  seed: number;
  live?: boolean;
}

const NAMES = { guide: "painting.png", picture: "picture.png", mask: "mask.png", reference: "reference.png" };

function isSource(value: unknown): value is Source {
  return typeof value === "string" || (typeof value === "object" && value !== null && "sha256" in value);
}

async function pictureOf(desk: Desk, source: Source): Promise<{ sha256: string; name: string } | null> {
  if (typeof source === "object") return source;
  const blob = await desk[source]();
  if (blob === null) return null;
  return { sha256: await api.upload(blob, NAMES[source]), name: NAMES[source] };
}

function missing(source: Source): Missing {
  if (source === "reference") return new Missing(t("run.no-reference"));
  return new Missing(t("run.no-picture"));
}

/** A method as a recipe has it, its pictures sent. */
async function entry(desk: Desk, method: MethodInfo, card: Card, preset: string | null): Promise<Entry> {
  const fields = fieldsOf(method);
  const given = { ...(preset === null ? {} : method.presets[preset]), ...card.fields };
  const made: Entry = { method: method.id };
  for (const field of fields.filter((one) => one.kind === "image")) {
    const chosen = given[field.name];
    const source = isSource(chosen) ? chosen : field.name in card.fields ? null : sourceOf(field);
    const picture = source === null ? null : await pictureOf(desk, source);
    if (picture !== null) made[field.name] = picture;
    else if (field.required || (source !== null && source !== "mask")) throw missing(source ?? "guide");
  }
  const values = { ...given, ...made };
  for (const field of acting(fields, values)) {
    const value = given[field.name];
    if (field.kind === "weights" && field.required) made[field.name] = value ?? field.offered?.[0];
    else if (field.kind !== "image" && value !== undefined && differs(field, value)) made[field.name] = value;
  }
  return made;
}

/** The method of a card; Missing where this server cannot run it. */
function there(find: (id: string | null) => MethodInfo | undefined, id: string): MethodInfo {
  const method = find(id);
  const why = obstacle(id, method);
  if (!method || why !== null) throw new Missing(why ?? "");
  return method;
}

function differs(field: FormField, value: unknown): boolean {
  return JSON.stringify(value) !== JSON.stringify(field.default ?? null);
}

export async function requestOf(
  desk: Desk, find: (id: string | null) => MethodInfo | undefined, model: string, wanted: Wanted,
): Promise<JobRequest> {
  const { settings } = desk;
  const methods: Entry[] = [];
  if (settings.method !== null) {
    const task = there(find, settings.method);
    methods.push(await entry(desk, task, { method: task.id, fields: settings.fields }, settings.preset));
  }
  for (const card of settings.cards) methods.push(await entry(desk, there(find, card.method), card, null));
  const recipe: Entry = {
    model, prompt: settings.prompt.trim(), seed: wanted.seed, methods, parents: desk.parents,
  };
  if (settings.adapters.length) recipe["adapters"] = settings.adapters;
  if (settings.negative.trim()) recipe["negative"] = settings.negative.trim();
  if (!wanted.live && settings.count > 1) recipe["n"] = settings.count;
  if (settings.steps !== null) recipe["steps"] = settings.steps;
  if (settings.solver !== null) recipe["solver"] = settings.solver;
  const named = typeof settings.spacing === "string" && SPACINGS.includes(settings.spacing);
  if (settings.spacing !== null && (named || !wanted.live)) recipe["spacing"] = settings.spacing; // others fix the steps
  if (wanted.live) {
    recipe["steps"] = Math.min(settings.steps ?? LIVE.steps, LIVE.steps);
    recipe["stages"] = LIVE.stages; // of a cascade its base alone, as large as the painting all the same
  }
  const name = settings.prompt.trim().slice(0, 80);
  return { kind: "recipe", recipe: asRecipe(recipe), name, priority: wanted.live ? 10 : 0 };
}

/** Its fields are of the server's own schemas, which no type here knows; the server checks them. */
function asRecipe(entry: Entry): Recipe {
  return JSON.parse(JSON.stringify(entry));
}

/** The desk as it is now, so that painting on changes nothing of a request that waits. */
export async function frozen(desk: Desk): Promise<Desk> {
  const [guide, picture, mask, reference] = await Promise.all([
    desk.guide(), desk.picture(), desk.mask(), desk.reference(),
  ]);
  return {
    id: desk.id, size: desk.size, runs: desk.runs, parents: desk.parents, masked: desk.masked,
    settings: JSON.parse(JSON.stringify(desk.settings)),
    guide: async () => guide, picture: async () => picture, mask: async () => mask,
    reference: async () => reference, accept: (blob, from) => desk.accept(blob, from),
  };
}

/** The desk with a blank sheet of its size in the place of every picture, which a plan is made of. */
export function blank(desk: Desk): Desk {
  const sheet = () => sheetOf(desk.size.width, desk.size.height);
  return {
    id: desk.id, size: desk.size, runs: [], parents: [], masked: false, settings: desk.settings,
    guide: sheet, picture: sheet, mask: async () => null, reference: sheet, accept: async () => undefined,
  };
}

const sheets = new Map<string, Promise<Blob>>();

function sheetOf(width: number, height: number): Promise<Blob> {
  const key = `${width}x${height}`;
  const known = sheets.get(key);
  if (known) return known;
  const canvas = document.createElement("canvas");
  canvas.width = width;
  canvas.height = height;
  const made = new Promise<Blob>((resolve, reject) => {
    canvas.toBlob((blob) => (blob ? resolve(blob) : reject(new Missing(t("run.no-picture")))), "image/png");
  });
  sheets.set(key, made);
  return made;
}

export function anySeed(): number {
  const [seed = 0] = crypto.getRandomValues(new Uint32Array(1));
  return seed;
}
