// A job as the page shows it: what the server said of it last, and its newest preview.
import type { File, Job, JobEvent, Schemas } from "../api/client";

export type State = Schemas["State"];
const ENDED: readonly State[] = ["done", "failed", "cancelled", "interrupted"];

export class StudioJob {
  readonly id: string;
  state = $state<State>("queued");
  kind = $state<Schemas["Kind"]>("recipe");
  name = $state("");
  parent = $state<string | null>(null);
  cancelling = $state(false);
  step = $state(0);
  total = $state(0);
  progress = $state(0); // 0 to 1
  eta = $state<number | null>(null);
  position = $state<number | null>(null);
  preview = $state<string | null>(null); // URL of a picture
  pictures = $state<readonly File[]>([]);
  notes = $state<readonly string[]>([]);
  error = $state<string | null>(null);
  recipe = $state.raw<Record<string, unknown> | null>(null);
  #event = 0; // number of the last kept event that is known of here
  readonly ended = $derived(ENDED.includes(this.state));

  constructor(id: string) {
    this.id = id;
  }

  /** What the server says of the whole; an answer that events have overtaken says nothing new. */
  is(job: Job): void {
    if (job.event < this.#event) return;
    this.#event = job.event;
    this.state = job.state;
    this.kind = job.kind;
    this.name = job.name;
    this.parent = job.parent;
    this.cancelling = job.cancelling && !this.ended;
    this.position = job.ahead;
    this.pictures = job.results;
    this.error = job.error;
    this.recipe = job.recipe;
    this.#progressed(job.progress);
    if (this.ended) this.preview = null;
  }

  /** What has happened to it. number: of an event that is kept. */
  happened(event: JobEvent, number: number | null): void {
    if (number !== null) {
      if (number <= this.#event) return; // the whole was asked for since
      this.#event = number;
    }
    this.parent = event.parent ?? this.parent;
    switch (event.event) {
      case "queued":
        this.state = "queued";
        this.kind = event.kind;
        this.name = event.name ?? this.name;
        this.#begin();
        break;
      case "started":
        this.state = "running";
        this.position = null;
        break;
      case "step":
        this.state = "running";
        this.step = event.i;
        this.total = event.n;
        this.#progressed(event.progress);
        if (event.preview) this.preview = event.preview;
        break;
      case "picture":
        this.#made(event.file);
        break;
      case "note":
        this.notes = [...this.notes, event.text];
        break;
      case "child":
        this.#progressed(event.progress);
        break;
      case "done":
      case "cancelled":
        for (const file of event.results ?? []) this.#made(file);
        this.#end(event.event);
        break;
      case "failed":
      case "interrupted":
        this.error = event.error;
        this.#end(event.event);
        break;
    }
  }

  #begin(): void {
    this.step = this.total = this.progress = 0;
    this.eta = this.preview = this.error = null;
    this.cancelling = false;
  }

  #progressed(progress: Schemas["Progress"]): void {
    const { done = 0, total = null, eta_s = null } = progress;
    this.progress = total ? Math.min(done / total, 1) : 0;
    this.eta = eta_s;
  }

  #made(file: File): void {
    const others = this.pictures.filter((other) => other.place !== file.place); // it may be told again
    this.pictures = [...others, file].sort((a, b) => a.place - b.place);
  }

  #end(state: State): void {
    this.state = state;
    this.cancelling = false;
    this.position = null;
    this.preview = null;
    this.eta = null;
    if (state === "done") this.progress = 1;
  }
}
