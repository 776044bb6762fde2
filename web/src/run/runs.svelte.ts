// Runs of the open document: at most one that is waited for, and the pictures that came of others,
// which are proposals until they are accepted or discarded. Nothing of the document is locked.
import { api, type File } from "../api/client";
import { connection } from "../api/connection.svelte";
import { newId } from "../api/hash";
import { Refusal, sentence, Unreachable } from "../api/problem";
import { catalogue } from "../forms/methods.svelte";
import { t } from "../i18n/index.svelte";
import type { StudioJob } from "../jobs/job.svelte";
import { jobs } from "../jobs/jobs.svelte";
import { keep, kept } from "../shell/kept";
import { notify } from "../shell/notices.svelte";
import type { Desk } from "./desk";
import { Live } from "./live.svelte";
import { modelOf } from "./offered";
import { anySeed, frozen, requestOf } from "./request";

export interface Proposal {
  job: StudioJob;
  file: File;
}

interface Waiting {
  document: string;
  send: () => Promise<StudioJob>;
}

class Runs {
  desk = $state.raw<Desk | null>(null);
  /** A request that waits until the server is back. */
  waiting = $state.raw<Waiting | null>(null);
  sending = $state(false);
  place = $state(0);
  readonly live = new Live();
  #dropped = $state.raw<ReadonlySet<string>>(new Set());
  readonly #stopped = new Set<string>();

  readonly #mine = $derived((this.desk?.runs ?? []).flatMap((id) => jobs.job(id) ?? []));
  /** The one that is at work, or waits for its turn. */
  readonly current = $derived(this.#mine.findLast((job) => !job.ended) ?? null);
  readonly proposals = $derived.by((): Proposal[] => {
    const ended = this.#mine.filter((job) => job.state === "done");
    const found = ended.flatMap((job) =>
      job.pictures.filter((file) => file.media_type.startsWith("image/")).map((file) => ({ job, file })),
    );
    const kept = found.filter((one) => !this.#dropped.has(keyOf(one)));
    return kept.length || this.live.proposal === null ? kept : [this.live.proposal];
  });
  readonly proposal = $derived(this.proposals[Math.min(this.place, this.proposals.length - 1)] ?? null);
  readonly busy = $derived(this.sending || this.current !== null || this.waiting !== null);

  start(): void {
    connection.onBack(() => void this.#resend());
    jobs.hold((job) => this.desk?.runs.includes(job.id) ?? false);
    jobs.onEnd((job) => {
      if (this.desk?.runs.includes(job.id)) this.#ended(job);
    });
  }

  /** Another document is open: its runs are looked up, and what it could not send is sent. */
  sit(desk: Desk): void {
    this.desk = desk;
    this.place = 0;
    this.live.drop();
    for (const id of desk.runs) jobs.find(id);
    const left = /^(\w+) (\d+)$/.exec(kept(nameOf(desk)) ?? "");
    this.waiting = null;
    if (!left) return;
    const [, key = "", seed = "0"] = left;
    this.waiting = { document: desk.id, send: async () => (await sender(desk, key, Number(seed)))() };
    if (!connection.lost) void this.#resend();
  }

  async run(): Promise<void> {
    const desk = this.desk;
    if (!desk || this.busy) return;
    this.live.drop();
    this.sending = true;
    const key = newId();
    const seed = desk.settings.seed ?? anySeed();
    try {
      const send = await sender(desk, key, seed);
      try {
        this.#sent(desk, await send());
      } catch (error) {
        if (!(error instanceof Unreachable)) throw error;
        this.waiting = { document: desk.id, send };
        keep(nameOf(desk), `${key} ${seed}`); // so that it is sent after a reload too
        notify(t("run.waits"), "info");
      }
    } catch (error) {
      notify(sentence(error), "bad");
    } finally {
      this.sending = false;
    }
  }

  async stop(): Promise<void> {
    if (this.waiting && this.desk) keep(nameOf(this.desk), "");
    this.waiting = null;
    const job = this.current;
    if (!job) return;
    this.#stopped.add(job.id);
    try {
      await jobs.cancel(job.id);
    } catch (error) {
      this.#stopped.delete(job.id);
      notify(sentence(error), "bad");
    }
  }

  async accept(): Promise<void> {
    const { desk, proposal } = this;
    if (!desk || !proposal) return;
    try {
      const blob = await api.image(proposal.file.sha256);
      await desk.accept(blob, { job: proposal.job.id, sha256: proposal.file.sha256 });
      const open = this.current?.id;
      desk.runs = open ? [open] : [];
      this.live.keep();
      this.place = 0;
    } catch (error) {
      notify(sentence(error), "bad");
    }
  }

  discard(): void {
    const { desk, proposal } = this;
    if (!desk || !proposal) return;
    if (proposal === this.live.proposal) {
      this.live.drop();
      return;
    }
    this.#dropped = new Set([...this.#dropped, keyOf(proposal)]);
    const left = proposal.job.pictures.some((file) => !this.#dropped.has(keyOf({ job: proposal.job, file })));
    if (!left) desk.runs = desk.runs.filter((id) => id !== proposal.job.id);
    this.place = Math.max(0, Math.min(this.place, this.proposals.length - 1));
  }

  /** The next proposal, or behind the last one a new run. */
  next(): void {
    if (this.place < this.proposals.length - 1) this.place += 1;
    else void this.run();
  }

  previous(): void {
    this.place = Math.max(0, this.place - 1);
  }

  /** Something was painted. */
  painted(): void {
    if (this.desk?.settings.live && !this.busy) this.live.sketch(this.desk);
  }

  #sent(desk: Desk, job: StudioJob): void {
    keep(nameOf(desk), "");
    desk.runs = [...desk.runs, job.id];
    this.place = this.proposals.length; // where its picture will be
  }

  #ended(job: StudioJob): void {
    const { desk } = this;
    if (!desk || job.state === "done") return;
    desk.runs = desk.runs.filter((id) => id !== job.id);
    const mine = this.#stopped.delete(job.id);
    if (job.error) notify(job.error, "bad", { label: t("run.retry"), run: () => void this.#again(job) });
    else if (!mine) notify(t("run.cancelled"), "info");
  }

  async #again(job: StudioJob): Promise<void> {
    try {
      await jobs.retry(job.id);
      if (this.desk) this.desk.runs = [...this.desk.runs, job.id];
    } catch (error) {
      notify(sentence(error), "bad");
    }
  }

  async #resend(): Promise<void> {
    const { waiting, desk } = this;
    if (!waiting || desk?.id !== waiting.document) return;
    this.waiting = null;
    try {
      if (!catalogue.methods.length) await catalogue.load();
      this.#sent(desk, await waiting.send());
    } catch (error) {
      if (error instanceof Unreachable) {
        this.waiting = waiting;
        return;
      }
      keep(nameOf(desk), "");
      notify(sentence(error), "bad");
    }
  }
}

/** Where this browser keeps that a document has a run that could not be sent. */
function nameOf(desk: Desk): string {
  return `waiting.${desk.id}`;
}

/** Sends the run of the painting as it is now, once, however often it is called. */
async function sender(desk: Desk, key: string, seed: number): Promise<() => Promise<StudioJob>> {
  const still = await frozen(desk);
  const ask = async () => {
    const model = modelOf(still.settings);
    return requestOf(still, (id) => catalogue.method(id), model.name, { seed });
  };
  return async () => {
    try {
      return await jobs.submit(await ask(), key);
    } catch (error) {
      if (!(error instanceof Refusal && error.field === "recipe.methods")) throw error;
      api.forget(); // a picture that was sent is no longer there
      return jobs.submit(await ask(), newId());
    }
  };
}

function keyOf(proposal: Proposal): string {
  return `${proposal.job.id}:${proposal.file.place}`;
}

export const runs = new Runs();
