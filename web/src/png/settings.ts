// A recipe as a document's settings: its words, numbers and methods. Its pictures are left out, as
// the document has its own.
import type { Adapter, Card, Settings } from "../run/settings";
import type { Recipe } from "./recipe";

type Entry = Record<string, unknown>;

function isEntry(value: unknown): value is Entry & { method: string } {
  return typeof value === "object" && value !== null && "method" in value && typeof value.method === "string";
}

function isAdapter(value: unknown): value is Adapter {
  return typeof value === "object" && value !== null && "file" in value && "sha256" in value && "scale" in value;
}

/** tasks: methods of which a document has one at most; known: all that the server has. */
export function settingsOf(
  recipe: Partial<Recipe>, tasks: ReadonlySet<string>, known: ReadonlySet<string>,
): Partial<Settings> {
  const entries = list(recipe["methods"]).filter(isEntry).filter((entry) => known.has(entry.method));
  const task = entries.find((entry) => tasks.has(entry.method));
  const cards = entries.filter((entry) => entry !== task).map(cardOf);
  const found: Partial<Settings> = {};
  if (recipe.prompt !== undefined) found.prompt = recipe.prompt;
  if (typeof recipe["negative"] === "string") found.negative = recipe["negative"];
  if (typeof recipe.model === "string") found.model = recipe.model;
  if (typeof recipe["seed"] === "number") found.seed = recipe["seed"];
  if (typeof recipe["steps"] === "number") found.steps = recipe["steps"];
  if (typeof recipe["n"] === "number") found.count = recipe["n"];
  if (recipe["methods"] !== undefined) {
    const { method, fields } = task ? cardOf(task) : { method: null, fields: {} };
    Object.assign(found, { method, fields, preset: null, cards });
  }
  if (recipe["adapters"] !== undefined) found.adapters = list(recipe["adapters"]).filter(isAdapter);
  return found;
}

function list(value: unknown): unknown[] {
  return Array.isArray(value) ? value : [];
}

function cardOf({ method, ...values }: Entry & { method: string }): Card {
  const given = Object.entries(values).filter(([, value]) => value !== null && !isPicture(value));
  return { method, fields: Object.fromEntries(given) };
}

function isPicture(value: unknown): boolean {
  return typeof value === "object" && value !== null && "sha256" in value;
}
