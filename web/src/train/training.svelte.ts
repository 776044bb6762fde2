// Trainings: what the next one learns from, those of the server, and what each shows of itself.
import { address, api, send, type File as Kept, type JobRequest, type MethodInfo } from "../api/client";
import { sentence } from "../api/problem";
import { fieldsOf } from "../forms/fields";
import { t } from "../i18n/index.svelte";
import type { StudioJob } from "../jobs/job.svelte";
import { jobs } from "../jobs/jobs.svelte";
import { notify } from "../shell/notices.svelte";
import { lines, type Line } from "./curves";
import { tables, wantedOf, type Wanted } from "./recipe";

export interface Shot {
  sha256: string;
  name: string;
  url: string;
}

const REST = 500; // milliseconds after the last change
const LOGS = 12; // tables that are kept
const ENDING = /\.(png|jpe?g|webp|avif|gif|tiff?|bmp)$/i;

class Training {
  shots = $state.raw<readonly Shot[]>([]);
  wanted = $state<Wanted>(wantedOf(undefined));
  sentences = $state.raw<readonly string[]>([]);
  nouns = $state.raw<readonly string[]>([]);
  wrong = $state<string | null>(null);
  sending = $state(false);
  bringing = $state(0);
  /** The training that is looked at. */
  selected = $state<string | null>(null);
  readonly list = $derived(jobs.list.filter((job) => job.kind === "train").sort((a, b) => (a.id < b.id ? 1 : -1)));
  readonly job = $derived(this.selected === null ? null : (jobs.job(this.selected) ?? null));

  #timer: ReturnType<typeof setTimeout> | undefined;
  readonly #tables = new Map<string, Promise<Line[]>>();

  constructor() {
    jobs.hold((job) => job.kind === "train");
  }

  async load(): Promise<void> {
    const page = await api.get("/v1/jobs", { query: { kind: "train", limit: 50 } });
    for (const job of page.jobs) jobs.take(job);
    this.selected ??= page.jobs.find((job) => job.state === "running")?.id ?? null;
  }

  /** Send pictures; each that is none is said by name. */
  async bring(files: Iterable<File>): Promise<void> {
    for (const file of files) {
      this.bringing += 1;
      try {
        if (file.type && !file.type.startsWith("image/")) throw new Error(t("train.not.picture", { name: file.name }));
        const sha256 = await api.upload(file, file.name || "photo.jpg");
        if (this.shots.some((shot) => shot.sha256 === sha256)) continue;
        const name = nameOf(file.name, this.shots.length + 1);
        this.shots = [...this.shots, { sha256, name, url: address("/v1/images/{sha256}/thumbnail", { sha256 }) }];
      } catch (error) {
        notify(sentence(error), "bad");
      } finally {
        this.bringing -= 1;
      }
    }
  }

  drop(shot: Shot): void {
    this.shots = this.shots.filter((other) => other !== shot);
  }

  request(): JobRequest {
    const pictures = this.shots.map(({ sha256, name }) => ({ sha256, name }));
    const made = { kind: "train", config: tables(this.wanted), pictures, name: `${this.wanted.name} ${this.wanted.noun}`.trim() };
    return JSON.parse(JSON.stringify(made)); // what it leaves out is the server's default
  }

  /** Ask what it would do, when the settings have come to rest. */
  plan(): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => void this.#plan(), REST);
  }

  async #plan(): Promise<void> {
    if (!this.shots.length) {
      this.sentences = this.nouns = [];
      this.wrong = null;
      return;
    }
    const asked = JSON.stringify(this.request());
    try {
      const plan = await api.post("/v1/plan", { body: this.request() });
      if (asked !== JSON.stringify(this.request())) return;
      this.sentences = plan.sentences ?? [];
      if ("nouns" in plan && Array.isArray(plan.nouns)) this.nouns = plan.nouns.map(String);
      this.wrong = null;
    } catch (error) {
      this.sentences = [];
      this.wrong = sentence(error);
    }
  }

  async begin(): Promise<void> {
    this.sending = true;
    try {
      const job = await jobs.submit(this.request());
      this.selected = job.id;
    } catch (error) {
      notify(sentence(error), "bad");
    } finally {
      this.sending = false;
    }
  }

  /** End with what has been learned, of which the best is kept. */
  async finish(id: string): Promise<void> {
    await jobs.cancel(id, "after_picture");
    notify(t("train.finishing"));
  }

  /** The lines of a table, which is read once: its hash is of what is in it. */
  table(file: Kept | undefined): Promise<Line[]> {
    if (!file) return Promise.resolve([]);
    const known = this.#tables.get(file.sha256);
    if (known) return known;
    const made = send(address("/v1/images/{sha256}", { sha256: file.sha256 }))
      .then((response) => response.text())
      .then(lines);
    this.#tables.set(file.sha256, made);
    made.catch(() => this.#tables.delete(file.sha256));
    const [oldest] = this.#tables.keys();
    if (this.#tables.size > LOGS && oldest !== undefined) this.#tables.delete(oldest);
    return made;
  }
}

/** A name that no other has, with an ending that says what it is. */
function nameOf(name: string, number: number): string {
  const own = name.replace(/^.*[/\\]/, "").slice(-100);
  return ENDING.test(own) ? `${number}-${own}` : `${number}.png`;
}

/** A method that needs what a training has made, such as a ControlNet. */
export interface Reader {
  file: Kept;
  method: string;
  field: string;
  /** What the field names it. */
  value: string;
}

export function readerOf(job: StudioJob, methods: readonly MethodInfo[]): Reader | undefined {
  for (const method of methods) {
    for (const field of fieldsOf(method)) {
      if (!field.required || field.denoiser) continue;
      for (const value of field.offered ?? []) {
        const file = job.pictures.find((one) => value.endsWith(`@sha256:${one.sha256}`));
        if (file) return { file, method: method.id, field: field.name, value };
      }
    }
  }
  return undefined;
}

/** The adapter that a training has made: the best that was seen, else the last. */
export function adapterOf(job: StudioJob): Kept | undefined {
  const found = job.pictures.filter((file) => file.name.endsWith("adapter.safetensors"));
  return found.find((file) => file.name.startsWith("best/")) ?? found[0];
}

export const training = new Training();
