// Undo and redo without end: steps over a content, each a mark laid or a whole content replaced.
import type { Content, MarksLayer } from "./content";
import type { Mark } from "./marks";

export type Step =
  | { readonly kind: "mark"; readonly layer: MarksLayer; readonly mark: Mark }
  | { readonly kind: "content"; readonly before: Content; readonly after: Content };

export interface History {
  readonly content: Content;
  readonly past: readonly Step[];
  readonly future: readonly Step[];
}

export function begun(content: Content): History {
  return { content, past: [], future: [] };
}

/** A step done: what had been undone can no longer be done again. */
export function done(history: History, step: Step): History {
  return { content: after(history.content, step), past: [...history.past, step], future: [] };
}

export function marked(history: History, layer: MarksLayer, mark: Mark): History {
  return done(history, { kind: "mark", layer, mark });
}

export function replaced(history: History, change: Partial<Content>): History {
  const { content } = history;
  return done(history, { kind: "content", before: content, after: { ...content, ...change } });
}

export function undone(history: History): History {
  const step = history.past.at(-1);
  if (!step) return history;
  return {
    content: before(history.content, step),
    past: history.past.slice(0, -1),
    future: [...history.future, step],
  };
}

export function redone(history: History): History {
  const step = history.future.at(-1);
  if (!step) return history;
  return {
    content: after(history.content, step),
    past: [...history.past, step],
    future: history.future.slice(0, -1),
  };
}

function after(content: Content, step: Step): Content {
  if (step.kind === "content") return step.after;
  return { ...content, [step.layer]: [...content[step.layer], step.mark] };
}

function before(content: Content, step: Step): Content {
  if (step.kind === "content") return step.before;
  return { ...content, [step.layer]: content[step.layer].slice(0, -1) };
}

/** All contents that a history can lead to. */
export function contentsOf(history: History): Content[] {
  const steps = [...history.past, ...history.future];
  return [history.content, ...steps.flatMap((step) => (step.kind === "content" ? [step.before, step.after] : []))];
}

/** All marks that a history can show, each once. */
export function marksOf(history: History): Map<string, Mark> {
  const found = new Map<string, Mark>();
  for (const content of contentsOf(history)) {
    for (const mark of [...content.strokes, ...content.mask]) found.set(mark.id, mark);
  }
  for (const step of [...history.past, ...history.future]) {
    if (step.kind === "mark") found.set(step.mark.id, step.mark);
  }
  return found;
}
