// The film of a document: a sweep of one field, its frames as they are made, and its curve.
import { address, api, send, type JobRequest } from "../api/client";
import { sentence } from "../api/problem";
import { catalogue } from "../forms/methods.svelte";
import { maybe, number, t } from "../i18n/index.svelte";
import type { StudioJob } from "../jobs/job.svelte";
import { jobs } from "../jobs/jobs.svelte";
import type { Desk } from "../run/desk";
import { modelOf } from "../run/offered";
import { anySeed, frozen, requestOf } from "../run/request";
import { keep, kept } from "../shell/kept";
import { notify } from "../shell/notices.svelte";
import { weightsLabel } from "../forms/fields";
import { sourceText } from "../forms/sources";
import { curveOf, type Curve } from "./curve";
import { FEWEST, frames, measured, over, rowName, sweepableOf, values, type Range, type Sweepable, type Value } from "./sweep";
import { at, fieldsIn } from "./varied";

type Recipe = Extract<JobRequest, { kind: "recipe" }>["recipe"];

const T0 = "sdedit.t0";
const LOW = 0.2; // of t0, where there is anything to choose
const HIGH = 0.9;
const COUNT = 7;
const SAID = 120; // letters of words
const FIRST = sweepableOf(T0, "t0", { shape: "numbers", low: [LOW], high: [HIGH] });

/** What a film is of, as this browser keeps it beside the painting. */
interface Kept {
  job: string;
  field: string;
  pictures: boolean;
  values: readonly Value[];
}

class Film {
  desk = $state.raw<Desk | null>(null);
  job = $state.raw<StudioJob | null>(null);
  range = $state<Range>(ranged(FIRST, COUNT));
  curve = $state.raw<Curve | null>(null);
  /** Which frame is looked at. */
  place = $state<number | null>(null);
  sending = $state(false);
  /** What the film that is there is of. */
  field = $state("");
  pictures = $state(false);
  #values = $state.raw<readonly Value[]>([]);

  readonly fields = $derived(this.desk === null ? [] : fieldsIn(this.desk));
  readonly frames = $derived(frames(this.#values, this.job ? jobs.children(this.job.id).map(childOf) : []));
  readonly busy = $derived(this.sending || (this.job !== null && !this.job.ended));
  readonly picked = $derived(this.place === null ? null : (this.frames[this.place] ?? null));

  constructor() {
    jobs.hold((job) => this.job !== null && [job.id, job.parent].includes(this.job.id));
  }

  /** Another document is open: its film, if it has one. */
  async sit(desk: Desk): Promise<void> {
    if (this.desk?.id === desk.id) return;
    this.desk = desk;
    this.#forget();
    const before = keptOf(kept(`film.${desk.id}`));
    if (before === null) return;
    try {
      const job = await api.get("/v1/jobs/{id}", { path: { id: before.job } });
      if (this.desk !== desk) return;
      this.#show(before, jobs.take(job));
      await this.#children(before.job);
      if (job.kind === "sweep") await this.#curve(before.job);
    } catch {
      this.#forget(); // the server has forgotten it
    }
  }

  #show(of: Kept, job: StudioJob): void {
    this.field = of.field;
    this.pictures = of.pictures;
    this.#values = of.values;
    this.job = job;
  }

  #forget(): void {
    this.job = null;
    this.curve = null;
    this.place = null;
    this.field = "";
    this.pictures = false;
    this.#values = [];
  }

  /** The ends that a field has. */
  choose(field: string): void {
    const found = this.fields.find((one) => one.field === field);
    if (!found) return;
    this.range = ranged(field === T0 ? { ...found, low: [LOW], high: [HIGH] } : found, this.range.count);
  }

  /** A choice is one of the frames, or is not. */
  toggle(choice: Value): void {
    const all = this.fields.find((one) => one.field === this.range.field)?.choices ?? [];
    const on = new Set(this.range.choices);
    if (!on.delete(choice)) on.add(choice);
    this.range.choices = all.filter((one) => on.has(one));
  }

  async make(): Promise<void> {
    const { desk, range } = this;
    if (!desk || this.busy) return;
    const all = values(range);
    if (all.length < FEWEST) {
      notify(t("film.few"), "bad");
      return;
    }
    this.sending = true;
    try {
      const { field, pictures } = range;
      const job = await jobs.submit(await filmed(await frozen(desk), range));
      this.#forget();
      const of = { job: job.id, field, pictures, values: all };
      this.#show(of, job);
      keep(`film.${desk.id}`, JSON.stringify(of));
    } catch (error) {
      notify(sentence(error), "bad");
    } finally {
      this.sending = false;
    }
  }

  /** A value of the film that is there, in words. */
  said(value: Value): string {
    return said(value, this.pictures);
  }

  async stop(): Promise<void> {
    if (this.job) await jobs.cancel(this.job.id);
  }

  /** Follow the sweep's end, as an effect of the strip. */
  follow(): void {
    const { job } = this;
    if (job?.state === "done" && job.kind === "sweep" && this.curve === null) void this.#curve(job.id);
  }

  async #children(parent: string): Promise<void> {
    const page = await api.get("/v1/jobs", { query: { parent, limit: 100 } });
    for (const child of page.jobs) jobs.take(child);
  }

  async #curve(id: string): Promise<void> {
    try {
      const response = await send(address("/v1/jobs/{id}/files/{name}", { id, name: "curve.csv" }));
      const curve = curveOf(await response.text());
      if (this.job?.id === id) this.curve = curve;
    } catch {
      return; // not there while it is at work
    }
  }

  /** The value of the frame that is looked at becomes the document's. */
  take(): void {
    const { desk, picked, job } = this;
    if (!desk || !picked || !job) return;
    desk.settings = at(desk.settings, this.field, picked.value);
    notify(t("film.taken", { value: this.said(picked.value) }), "good");
  }

  /** The frame that is looked at becomes the document's picture. */
  async goOn(): Promise<void> {
    const { desk, picked } = this;
    if (!desk || !picked?.sha256 || !picked.job) return;
    try {
      await desk.accept(await api.image(picked.sha256), { job: picked.job, sha256: picked.sha256 });
      this.place = null;
    } catch (error) {
      notify(sentence(error), "bad");
    }
  }
}

/** The job of a film. */
async function filmed(desk: Desk, range: Range): Promise<JobRequest> {
  const seed = desk.settings.seed ?? anySeed();
  const all = measured(range) ? [null] : values(range);
  const recipes: Recipe[] = [];
  for (const value of all) { // one after the other, so that a picture is sent once
    const settings = value === null && measured(range) ? desk.settings : at(desk.settings, range.field, value);
    recipes.push(await recipeOf({ ...desk, settings }, settings.seed ?? seed));
  }
  const name = desk.settings.prompt.trim().slice(0, 80);
  const [recipe] = recipes;
  if (recipe === undefined) throw new Error(t("film.few"));
  if (measured(range)) {
    return {
      kind: "sweep", recipe, over: over(range), seeds: 1, prompts: [], choose: null,
      search: [], target: "rms", name, priority: 0,
    };
  }
  const rows = recipes.map((one, k) => ({
    recipe: one, search: [], target: "rms", name: rowName(k, range.field, all[k] ?? null),
  }));
  return { kind: "batch", rows, name, priority: 0 };
}

/** What makes a frame's picture. */
async function recipeOf(desk: Desk, seed: number): Promise<Recipe> {
  const model = modelOf(desk.settings);
  const request = await requestOf(desk, (id) => catalogue.method(id), model.name, { seed });
  if (request.kind !== "recipe") throw new Error(request.kind);
  return { ...request.recipe, n: 1 };
}

function ranged(field: Sweepable, count: number): Range {
  const low = [...field.low];
  const high = [...field.high];
  return { ...field, low, high, count, lines: field.now === "" ? "" : `${field.now}\n` };
}

function keptOf(text: string | undefined): Kept | null {
  if (!text?.startsWith("{")) return null; // none, or an earlier version's
  const value: unknown = JSON.parse(text);
  return isKept(value) ? value : null;
}

function isKept(value: unknown): value is Kept {
  return typeof value === "object" && value !== null && "job" in value && "field" in value && "values" in value && Array.isArray(value.values);
}

function childOf(job: StudioJob) {
  return { id: job.id, state: job.state, name: job.name, results: job.pictures };
}

/** A value in words. pictures: it is one of the painting's. */
export function said(value: Value, pictures = false): string {
  if (pictures) return sourceText(value);
  if (value === null) return t("form.optional");
  if (typeof value === "number") return number(value);
  if (typeof value === "boolean") return t(value ? "film.on" : "film.off");
  if (typeof value === "string") return maybe(`choice.${value}`, weightsLabel(value)).slice(0, SAID);
  return Array.isArray(value) ? value.map((one) => said(one)).join(" – ") : sourceText(value);
}

export const film = new Film();
