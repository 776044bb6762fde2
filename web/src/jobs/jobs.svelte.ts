// All jobs that this page knows of: submitted here or elsewhere, kept up to date by one stream.
import { SvelteMap } from "svelte/reactivity";
import { address, api, type Job, type JobEvent, type JobRequest } from "../api/client";
import { connection } from "../api/connection.svelte";
import { newId } from "../api/hash";
import { Refusal } from "../api/problem";
import { session } from "../api/session.svelte";
import { Stream } from "../api/stream";
import { StudioJob } from "./job.svelte";

export type Listener = (job: StudioJob, event: JobEvent) => void;

const KEPT = 50; // ended jobs that nothing shows any more

class Jobs {
  readonly #known = new SvelteMap<string, StudioJob>();
  readonly #listeners = new Set<Listener>();
  readonly #endings = new Set<(job: StudioJob) => void>();
  readonly #holders = new Set<(job: StudioJob) => boolean>();
  #stream: Stream | null = null;
  /** Nothing begins until it is resumed; so it is after the server has died. */
  paused = $state(false);
  readonly list = $derived([...this.#known.values()]);
  readonly open = $derived(this.list.filter((job) => !job.ended && job.parent === null));

  start(): void {
    const name = `sfumato:${new URL(".", document.baseURI).pathname}`;
    this.#stream = new Stream({
      name,
      channel: "BroadcastChannel" in globalThis ? new BroadcastChannel(name) : null,
      locks: navigator.locks ?? null,
      open: async (last, signal) => {
        const headers: Record<string, string> = last === null ? {} : { "last-event-id": last };
        const response = await fetch(address("/v1/events"), { headers, signal });
        if (response.status === 401) session.expire();
        if (!response.ok) throw new Error(String(response.status));
        return response;
      },
      told: (event) => this.#told(JSON.parse(event.data), event.id === null ? null : Number(event.id)),
      opened: () => {
        connection.answered();
        void this.refresh();
      },
      broken: () => {
        if (!session.expired) connection.failed(); // else it has answered, by asking for the token
      },
    });
    this.#stream.start();
    addEventListener("online", () => this.#stream?.wake());
    addEventListener("offline", () => connection.failed());
    addEventListener("pageshow", () => this.#stream?.wake());
    document.addEventListener("visibilitychange", () => {
      if (document.visibilityState === "visible") this.#stream?.wake();
    });
  }

  /** Try the server now. */
  wake(): void {
    this.#stream?.wake();
  }

  job(id: string): StudioJob | undefined {
    return this.#known.get(id);
  }

  /** The job of an id, looked up where it is not known yet. */
  find(id: string): StudioJob {
    const known = this.#known.get(id);
    if (known) return known;
    const job = this.#add(id);
    void this.#look(job);
    return job;
  }

  children(parent: string): StudioJob[] {
    return this.list.filter((job) => job.parent === parent);
  }

  /** key: makes it safe to send again what may have arrived. */
  async submit(request: JobRequest, key = newId()): Promise<StudioJob> {
    const made = await api.post("/v1/jobs", {
      body: request, headers: { "Idempotency-Key": key },
    });
    return this.take(made);
  }

  async cancel(id: string, when: "now" | "after_picture" = "now"): Promise<void> {
    const job = this.#known.get(id);
    if (job) job.cancelling = true;
    try {
      const now = await api.post("/v1/jobs/{id}/cancel", { path: { id }, body: { when } });
      if (job) this.#is(job, now);
    } catch (error) {
      if (job) job.cancelling = false;
      if (!(error instanceof Refusal && error.status === 409)) throw error; // had ended
    }
  }

  async retry(id: string): Promise<void> {
    this.take(await api.post("/v1/jobs/{id}/retry", { path: { id } }));
  }

  async resume(): Promise<void> {
    this.paused = (await api.post("/v1/queue/resume")).paused;
  }

  forget(id: string): void {
    this.#known.delete(id);
  }

  /** Ended jobs of which this is true are kept; of the others only the newest, as a page may be open for
   * days beside others that submit thousands. */
  hold(needed: (job: StudioJob) => boolean): void {
    this.#holders.add(needed);
  }

  /** The job that the server says this of. */
  take(told: Job): StudioJob {
    return this.#is(this.#known.get(told.id) ?? this.#add(told.id), told);
  }

  /** Be told of all that happens; the answer stops that. */
  listen(listener: Listener): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Be told of every job that ends, however this page learns of it; the answer stops that. */
  onEnd(call: (job: StudioJob) => void): () => void {
    this.#endings.add(call);
    return () => this.#endings.delete(call);
  }

  /** Once that job has ended, which it may have done already. */
  end(job: StudioJob): Promise<void> {
    if (job.ended) return Promise.resolve();
    return new Promise((resolve) => {
      const stop = this.onEnd((other) => {
        if (other !== job) return;
        stop();
        resolve();
      });
    });
  }

  /** Ask what the state is: steps are not kept, and what is known may be old. */
  async refresh(): Promise<void> {
    try {
      this.paused = (await api.get("/v1/queue")).paused;
      for (const state of ["running", "queued"] as const) {
        const page = await api.get("/v1/jobs", { query: { state, limit: 100 } });
        for (const job of page.jobs) this.take(job);
      }
      const stale = this.list.filter((job) => !job.ended);
      await Promise.all(stale.slice(0, 50).map((job) => this.#look(job)));
    } catch {
      return; // said by the connection; asked again when it is back
    }
  }

  async #look(job: StudioJob): Promise<void> {
    try {
      this.#is(job, await api.get("/v1/jobs/{id}", { path: { id: job.id } }));
    } catch (error) {
      if (error instanceof Refusal && error.status === 404) this.#known.delete(job.id);
    }
  }

  #add(id: string): StudioJob {
    const job = new StudioJob(id);
    this.#known.set(id, job);
    return job;
  }

  #is(job: StudioJob, told: Job): StudioJob {
    this.#watched(job, () => job.is(told));
    return job;
  }

  #told(event: JobEvent, number: number | null): void {
    const job = this.#known.get(event.job) ?? this.#add(event.job);
    this.#watched(job, () => job.happened(event, number));
    for (const listener of this.#listeners) listener(job, event);
  }

  #watched(job: StudioJob, change: () => void): void {
    const before = job.ended;
    change();
    if (!job.ended || before) return;
    for (const call of this.#endings) call(job);
    this.#prune();
  }

  #prune(): void {
    const holders = [...this.#holders];
    const idle = [...this.#known.values()].filter((job) => job.ended && !holders.some((needed) => needed(job)));
    for (const job of idle.slice(0, Math.max(0, idle.length - KEPT))) this.#known.delete(job.id);
  }
}

export const jobs = new Jobs();
