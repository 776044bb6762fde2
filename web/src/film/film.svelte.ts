// The film of a document: a sweep of one field, its frames as they are made, and its curve.
import { address, api, send, type JobRequest } from "../api/client";
import { sentence } from "../api/problem";
import { catalogue } from "../forms/methods.svelte";
import { maybe, number, t } from "../i18n/index.svelte";
import type { StudioJob } from "../jobs/job.svelte";
import { jobs } from "../jobs/jobs.svelte";
import { change } from "../run/change";
import type { Desk } from "../run/desk";
import { modelOf } from "../run/offered";
import { anySeed, frozen, requestOf } from "../run/request";
import { keep, kept } from "../shell/kept";
import { notify } from "../shell/notices.svelte";
import { curveOf, type Curve } from "./curve";
import { filmOf, frames, over, rowName, sweepable, values, type Range, type Sweepable, type Value } from "./sweep";

type Recipe = Extract<JobRequest, { kind: "recipe" }>["recipe"];

const STEPS: Sweepable = { field: "steps", title: "Steps", low: 2, high: 30, whole: true, choices: null };
const COUNT = 7;

class Film {
  desk = $state.raw<Desk | null>(null);
  job = $state.raw<StudioJob | null>(null);
  range = $state<Range>({ field: "sdedit.t0", low: 0.2, high: 0.9, count: COUNT, whole: false, choices: null });
  curve = $state.raw<Curve | null>(null);
  /** Which frame is looked at. */
  place = $state<number | null>(null);
  sending = $state(false);
  /** What the film that is there is of. */
  field = $state("");
  #values = $state.raw<readonly Value[]>([]);

  /** Fields that the document's methods have, and steps. */
  readonly fields = $derived.by((): Sweepable[] => {
    const { settings } = this.desk ?? {};
    const ids = settings ? [settings.method, ...settings.cards.map((card) => card.method)] : [];
    const found = ids.flatMap((id) => {
      const method = catalogue.method(id);
      const properties = method?.fields["properties"];
      return method && isSchemas(properties) ? sweepable(method.id, properties) : [];
    });
    return [...found, STEPS];
  });
  readonly frames = $derived(frames(this.field, this.#values, this.job ? jobs.children(this.job.id).map(childOf) : []));
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
    const id = kept(`film.${desk.id}`);
    if (!id) return;
    try {
      const request = await api.get("/v1/jobs/{id}/request", { path: { id } });
      const asked = filmOf(request);
      if (this.desk !== desk || asked === null) return;
      this.field = asked.field;
      this.#values = asked.values;
      this.job = jobs.find(id);
      await this.#children(id);
      if (request.kind === "sweep") await this.#curve(id);
    } catch {
      this.#forget(); // the server has forgotten it
    }
  }

  #forget(): void {
    this.job = null;
    this.curve = null;
    this.place = null;
    this.field = "";
    this.#values = [];
  }

  /** The ends that a field has. */
  choose(field: string): void {
    const found = this.fields.find((one) => one.field === field);
    if (!found) return;
    const t0 = field === "sdedit.t0";
    const { low, high, whole, choices } = found;
    this.range = { field, low: t0 ? 0.2 : low, high: t0 ? 0.9 : high, whole, choices, count: this.range.count };
  }

  async make(): Promise<void> {
    const { desk, range } = this;
    if (!desk || this.busy) return;
    this.sending = true;
    try {
      const model = modelOf(desk.settings);
      const seed = desk.settings.seed ?? anySeed();
      const find = (id: string | null) => catalogue.method(id);
      const request = await requestOf(await frozen(desk), find, model.name, { seed });
      if (request.kind !== "recipe") return;
      const job = await jobs.submit(filmed({ ...request.recipe, n: 1 }, request.name ?? "", range));
      this.#forget();
      this.field = range.field;
      this.#values = values(range);
      this.job = job;
      keep(`film.${desk.id}`, job.id);
    } catch (error) {
      notify(sentence(error), "bad");
    } finally {
      this.sending = false;
    }
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
    const { field } = this;
    const [owner = "", name = ""] = field.split(".");
    const { settings } = desk;
    if (field === "steps") change(desk, { steps: Number(picked.value) });
    else if (owner === settings.method) change(desk, { fields: { ...settings.fields, [name]: picked.value } });
    else {
      const cards = settings.cards.map((card) =>
        card.method === owner ? { ...card, fields: { ...card.fields, [name]: picked.value } } : card,
      );
      change(desk, { cards });
    }
    notify(t("film.taken", { value: said(picked.value) }), "good");
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
function filmed(recipe: Recipe, name: string, range: Range): JobRequest {
  if (range.choices === null) {
    return {
      kind: "sweep", recipe, over: over(range), seeds: 1, prompts: [], choose: null,
      search: [], target: "rms", name, priority: 0,
    };
  }
  const rows = values(range).map((value) => ({
    recipe: having(recipe, range.field, value), search: [], target: "rms", name: rowName(range.field, value),
  }));
  return { kind: "batch", rows, name, priority: 0 };
}

/** A recipe with METHOD.FIELD at a value. */
function having(recipe: Recipe, field: string, value: Value): Recipe {
  const [owner = "", name = ""] = field.split(".");
  const methods = (recipe.methods ?? []).map((entry) => (entry.method === owner ? { ...entry, [name]: value } : entry));
  return JSON.parse(JSON.stringify({ ...recipe, methods })); // the server checks its fields
}

/** A value in words. */
export function said(value: Value): string {
  if (typeof value === "number") return number(value);
  return typeof value === "string" ? maybe(`choice.${value}`, value) : t(value ? "film.on" : "film.off");
}

function isSchemas(value: unknown): value is Record<string, Record<string, unknown>> {
  return typeof value === "object" && value !== null;
}

function childOf(job: StudioJob) {
  return { id: job.id, state: job.state, name: job.name, results: job.pictures };
}

export const film = new Film();
