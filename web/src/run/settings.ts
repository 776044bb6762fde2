// What a document's run needs besides its pictures; the form edits it, the request is made of it.
import type { Solver, Spacing } from "./solvers";

/** A method and the values of its fields that are not the defaults. */
export interface Card {
  method: string;
  fields: Record<string, unknown>;
}

export interface Settings {
  /** Of the task, such as sdedit; none: words alone make the picture. */
  method: string | null;
  fields: Record<string, unknown>;
  preset: string | null;
  /** Methods beside it, such as guidance. */
  cards: Card[];
  /** Name of one that the server offers; none: its first. */
  model: string | null;
  prompt: string;
  negative: string;
  /** None: another for every run. */
  seed: number | null;
  steps: number | null;
  /** None: the method's own. */
  solver: Solver | null;
  /** Where its times lie; none: the method's own. */
  spacing: Spacing | null;
  /** Pictures of one run. */
  count: number;
  live: boolean;
  /** Trained ones that run with it, of this server's own trainings. */
  adapters: Adapter[];
}

export interface Adapter {
  file: string;
  sha256: string;
  scale: number;
}

export function freshSettings(): Settings {
  return {
    method: "sdedit", fields: {}, preset: "strokes", cards: [], model: null, prompt: "",
    negative: "", seed: null, steps: null, solver: null, spacing: null, count: 1, live: false, adapters: [],
  };
}

/** Where a field that takes a picture gets it from. */
export type Source = "guide" | "picture" | "mask" | "reference" | { sha256: string; name: string };
