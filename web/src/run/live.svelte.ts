// Live: a finished stroke starts a sketch of few steps and drops the one before, of which nothing
// stays on the server either.
import { api } from "../api/client";
import { sentence, Unreachable } from "../api/problem";
import { catalogue } from "../forms/methods.svelte";
import type { StudioJob } from "../jobs/job.svelte";
import { jobs } from "../jobs/jobs.svelte";
import { notify } from "../shell/notices.svelte";
import type { Desk } from "./desk";
import { modelOf } from "./offered";
import { anySeed, requestOf } from "./request";
import type { Proposal } from "./runs.svelte";

const REST = 120; // milliseconds after a stroke

export class Live {
  job = $state.raw<StudioJob | null>(null);
  /** What the sketch before looked like, until the new one is there. */
  #last = $state.raw<Proposal | null>(null);
  readonly #now = $derived.by((): Proposal | null => {
    const file = this.job?.state === "done" ? this.job.pictures[0] : undefined;
    return this.job && file ? { job: this.job, file } : null;
  });
  readonly proposal = $derived(this.#now ?? this.#last);
  readonly at = $derived(this.job !== null && !this.job.ended);
  readonly #seed = anySeed(); // one for all, so that only what is painted changes the picture
  #timer: ReturnType<typeof setTimeout> | undefined;
  #sending = false;
  #again: Desk | null = null;

  sketch(desk: Desk): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => void this.#sketch(desk), REST);
  }

  async #sketch(desk: Desk): Promise<void> {
    if (this.#sending) {
      this.#again = desk;
      return;
    }
    this.#sending = true;
    try {
      const model = modelOf(desk.settings);
      const wanted = { seed: desk.settings.seed ?? this.#seed, live: true };
      const request = await requestOf(desk, (id) => catalogue.method(id), model.name, wanted);
      const before = this.job;
      if (before && this.#now?.job === before) {
        if (this.#last) forget(this.#last.job);
        this.#last = this.#now;
      } else if (before) forget(before);
      this.job = await jobs.submit(request);
    } catch (error) {
      if (!(error instanceof Unreachable)) notify(sentence(error), "bad"); // the next stroke tries again
    } finally {
      this.#sending = false;
      const again = this.#again;
      this.#again = null;
      if (again) this.sketch(again);
    }
  }

  /** Forget the sketch: it was discarded, or a run takes its place. */
  drop(): void {
    clearTimeout(this.#timer);
    for (const job of new Set([this.job, this.#last?.job])) if (job) forget(job);
    this.job = this.#last = null;
  }

  /** It was accepted: its job stays, as what the picture came from. */
  keep(): void {
    this.job = this.#last = null;
  }
}

/** Stop a sketch, and have the server forget it once it has ended. */
function forget(job: StudioJob): void {
  void jobs.end(job).then(() => {
    jobs.forget(job.id);
    void api.delete("/v1/jobs/{id}", { path: { id: job.id } }).catch(() => undefined); // retention does
  });
  if (!job.ended) void jobs.cancel(job.id).catch(() => undefined); // it ends by itself then
}
