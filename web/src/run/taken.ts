// A recipe's settings as a document's: of a picture that was made elsewhere, or long ago. Its
// pictures are left out, as the document has its own; a model or a method that is not here is taken
// all the same, and the run panel says so.
import { fieldsOf } from "../forms/fields";
import { catalogue } from "../forms/methods.svelte";
import type { Adapter, Card, Settings } from "./settings";
import { isSolver, isSpacing } from "./solvers";

type Entry = Record<string, unknown>;

function isEntry(value: unknown): value is Entry {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function isAdapter(value: unknown): value is Adapter {
  return isEntry(value) && typeof value["file"] === "string" && typeof value["sha256"] === "string" && typeof value["scale"] === "number";
}

function whole(value: unknown): number | null {
  return typeof value === "number" && Number.isInteger(value) ? value : null;
}

function cardOf(entry: Entry): Card {
  const method = catalogue.method(String(entry["method"]));
  if (!method) return { method: String(entry["method"]), fields: {} };
  const fields: Record<string, unknown> = {};
  for (const field of fieldsOf(method)) {
    const value = entry[field.name];
    const same = JSON.stringify(value) === JSON.stringify(field.default ?? null);
    if (field.kind !== "image" && value !== undefined && !same) fields[field.name] = value;
  }
  return { method: method.id, fields };
}

/** What a recipe says, and of the settings now what it leaves open. */
export function taken(recipe: Entry, now: Settings): Settings {
  const entries = Array.isArray(recipe["methods"]) ? recipe["methods"].filter(isEntry) : null;
  const cards = (entries ?? []).map(cardOf);
  const task = cards.find((card) => catalogue.tasks.some((method) => method.id === card.method));
  const model = recipe["model"];
  return {
    ...now,
    ...(entries === null ? {} : {
      method: task?.method ?? null, fields: task?.fields ?? {}, preset: null,
      cards: cards.filter((card) => card !== task && !usual(card)),
    }),
    model: typeof model === "string" ? model : now.model,
    prompt: typeof recipe["prompt"] === "string" ? recipe["prompt"] : now.prompt,
    negative: typeof recipe["negative"] === "string" ? recipe["negative"] : now.negative,
    seed: whole(recipe["seed"]) ?? now.seed,
    steps: whole(recipe["steps"]) ?? now.steps,
    solver: isSolver(recipe["solver"]) ? recipe["solver"] : now.solver,
    spacing: isSpacing(recipe["spacing"]) ? recipe["spacing"] : now.spacing,
    count: whole(recipe["n"]) ?? now.count,
    adapters: Array.isArray(recipe["adapters"]) ? recipe["adapters"].filter(isAdapter) : now.adapters,
  };
}

const ELSEWHERE = ["size", "stages", "label"]; // settings of a recipe that a document has none of

/** What a recipe says that is not taken. */
export function leftOf(recipe: Entry): string[] {
  return ELSEWHERE.filter((name) => recipe[name] !== undefined && recipe[name] !== null);
}

/** What a run has without being asked, and a picture's recipe names: guidance and threshold. */
function usual(card: Card): boolean {
  return ["cfg", "threshold"].includes(card.method) && Object.keys(card.fields).length === 0;
}
