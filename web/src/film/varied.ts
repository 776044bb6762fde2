// What of a document's settings a film varies: which fields there are, and the settings at a value.
import { catalogue } from "../forms/methods.svelte";
import { fieldsOf } from "../forms/fields";
import { standing } from "../forms/sources";
import type { Desk } from "../run/desk";
import type { Settings } from "../run/settings";
import { isSolver, SOLVERS, SPACINGS } from "../run/solvers";
import { sweepable, sweepableOf, type Sweepable, type Value } from "./sweep";

const STEPS = { low: [2], high: [30], whole: true };
const STRONGEST = 2; // of what was trained

/** Fields that the document's methods have, then those of the run itself. */
export function fieldsIn(desk: Desk): Sweepable[] {
  const { settings } = desk;
  const task = settings.method === null ? [] : [{ method: settings.method, fields: settings.fields }];
  const found = [...task, ...settings.cards].flatMap(({ method: id, fields }, k) => {
    const method = catalogue.method(id);
    if (!method) return [];
    const preset = task.length && k === 0 ? settings.preset : null;
    return sweepable(method.id, fieldsOf(method), standing(method, fields, preset, desk.masked));
  });
  return [...found, ...own(settings)];
}

function own(settings: Settings): Sweepable[] {
  const seed = settings.seed ?? 0;
  const models = catalogue.models.map((model) => model.name);
  return [
    sweepableOf("prompt", "Words", { shape: "words", now: settings.prompt }),
    sweepableOf("negative", "Negative", { shape: "words", now: settings.negative }),
    sweepableOf("steps", "Steps", { shape: "numbers", ...STEPS }),
    sweepableOf("seed", "Seed", { shape: "numbers", low: [seed], high: [seed + 6], whole: true }),
    sweepableOf("solver", "Solver", { shape: "choices", choices: SOLVERS }),
    sweepableOf("spacing", "Times", { shape: "choices", choices: SPACINGS }),
    ...(models.length > 1 ? [sweepableOf("model", "Model", { shape: "choices", choices: models })] : []),
    ...settings.adapters.map((adapter, k) =>
      sweepableOf(`adapters.${k}`, adapter.file.replace(/\.safetensors$/, ""), { shape: "numbers", high: [STRONGEST] }),
    ),
  ];
}

/** The settings with a field at a value. */
export function at(settings: Settings, field: string, value: Value): Settings {
  const [owner = "", name = ""] = field.split(".");
  switch (field) {
    case "prompt": return { ...settings, prompt: String(value) };
    case "negative": return { ...settings, negative: String(value) };
    case "steps": return { ...settings, steps: Number(value) };
    case "seed": return { ...settings, seed: Number(value) };
    case "solver": return { ...settings, solver: isSolver(value) ? value : null };
    case "spacing": return { ...settings, spacing: String(value) };
    case "model": return { ...settings, model: String(value) };
  }
  if (owner === "adapters") {
    const adapters = settings.adapters.map((one, k) => (String(k) === name ? { ...one, scale: Number(value) } : one));
    return { ...settings, adapters };
  }
  if (owner === settings.method) return { ...settings, fields: { ...settings.fields, [name]: value } };
  const cards = settings.cards.map((card) =>
    card.method === owner ? { ...card, fields: { ...card.fields, [name]: value } } : card,
  );
  return { ...settings, cards };
}
