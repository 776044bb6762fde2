// @vitest-environment happy-dom
// What the page remembers of jobs while it is open for long.
import { expect, test } from "vitest";
import type { Job } from "../src/api/client";
import { jobs } from "../src/jobs/jobs.svelte";

function told(id: string, state: Job["state"], event: number): Job {
  return {
    id, kind: "recipe", state, client: "c", name: "", parent: null, priority: 0, attempt: 1, event,
    created: "2026-01-01T00:00:00Z", started: null, ended: null, cancelling: false, ahead: null, eta_s: null,
    progress: { done: 0, total: null, eta_s: null }, children: null, recipe: null, results: [], error: null,
  };
}

test("of a thousand jobs that have ended it keeps some, and all that are shown or at work", () => {
  jobs.hold((job) => job.id === "shown");
  jobs.take(told("shown", "running", 1));
  jobs.take(told("shown", "done", 2));
  jobs.take(told("open", "running", 3));
  for (let k = 0; k < 1000; k++) {
    jobs.take(told(`job ${k}`, "running", 4 + 2 * k));
    jobs.take(told(`job ${k}`, "done", 5 + 2 * k));
  }
  expect(jobs.list.length).toBeLessThan(60);
  for (const id of ["shown", "open", "job 999"]) expect(jobs.job(id)?.id).toBe(id);
  expect(jobs.job("job 0")).toBeUndefined();
});
