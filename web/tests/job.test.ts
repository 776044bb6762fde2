// A job as the page knows it: answers and events may overtake each other.
import { expect, test } from "vitest";
import type { Job, JobEvent } from "../src/api/client";
import { StudioJob } from "../src/jobs/job.svelte";

function told(state: Job["state"], event: number): Job {
  return {
    id: "a", kind: "recipe", state, client: "c", name: "", parent: null, priority: 0, attempt: 1, event,
    created: "2026-01-01T00:00:00Z", started: null, ended: null, cancelling: false, ahead: null, eta_s: null,
    progress: { done: 0, total: null, eta_s: null }, children: null, recipe: null, results: [], error: null,
  };
}

function happened(event: "started" | "done" | "queued"): JobEvent {
  return { event, job: "a", parent: null, attempt: 1, at: "2026-01-01T00:00:00Z" } as JobEvent;
}

test("an answer that an event has overtaken takes nothing back", () => {
  const job = new StudioJob("a");
  job.happened(happened("started"), 4);
  job.happened(happened("done"), 6);
  job.is(told("running", 4)); // it was asked for before the end
  expect(job.state).toBe("done");
  expect(job.ended).toBe(true);
});

test("an event that an answer has overtaken takes nothing back either", () => {
  const job = new StudioJob("a");
  job.is(told("done", 6));
  job.happened(happened("started"), 4);
  expect(job.state).toBe("done");
});

test("what is tried again begins anew, by whichever comes first", () => {
  const job = new StudioJob("a");
  job.is(told("failed", 6));
  job.is(told("queued", 7));
  expect(job.state).toBe("queued");
  job.happened(happened("queued"), 7);
  job.happened(happened("started"), 8);
  expect(job.state).toBe("running");
});
