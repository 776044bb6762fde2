// The settings that a picture file carries: our recipe, or another program's parameters.
import { isPng, textsOf } from "./chunks";
import { numberOf, parameters, withoutLoras } from "./parameters";
import { meant } from "./samplers";

/** A recipe as the server takes it; its fields are the server's business. */
export type Recipe = Record<string, unknown> & { model: string; prompt: string };

export type Carried =
  | { kind: "recipe"; recipe: Recipe }
  | { kind: "parameters"; recipe: Partial<Recipe>; model: string | null; left: string[] }
  | { kind: "none"; png: boolean };

const TAKEN = ["Steps", "Seed", "CFG scale", "Denoising strength", "Model", "Sampler", "Schedule type", "Scheduler", "Size"];

/** What a dropped file says. */
export function carried(bytes: Uint8Array): Carried {
  const texts = textsOf(bytes);
  const own = texts.get("sfumato");
  const recipe = own === undefined ? null : recipeOf(own);
  if (recipe) return { kind: "recipe", recipe };
  const text = texts.get("parameters");
  const found = text === undefined ? null : parameters(text);
  if (!found) return { kind: "none", png: isPng(bytes) };
  const { words, loras } = withoutLoras(found.prompt);
  const taken: Partial<Recipe> = { prompt: words };
  if (found.negative) taken["negative"] = found.negative;
  const steps = numberOf(found, "Steps", 1, 1000);
  const seed = numberOf(found, "Seed", 0, Number.MAX_SAFE_INTEGER);
  const scale = numberOf(found, "CFG scale", 0, 100);
  const t0 = numberOf(found, "Denoising strength", 0, 1);
  const { solver, spacing, left } = meant(found.settings.get("Sampler"), found.settings.get("Schedule type") ?? found.settings.get("Scheduler"));
  const enlarged = [...found.settings.keys()].some((name) => name.startsWith("Hires")); // whose strength it is then
  if (steps !== null) taken["steps"] = steps;
  if (seed !== null) taken["seed"] = seed;
  if (solver !== null) taken["solver"] = solver;
  if (spacing !== null) taken["spacing"] = spacing;
  const methods: Record<string, unknown>[] = [];
  if (scale !== null) methods.push({ method: "cfg", scale });
  if (t0 !== null && t0 < 1 && !enlarged) methods.push({ method: "sdedit", t0 });
  if (methods.length) taken["methods"] = methods;
  const others = [...found.settings.keys()].filter((name) => !TAKEN.includes(name) || (enlarged && name === "Denoising strength"));
  return { kind: "parameters", recipe: taken, model: found.settings.get("Model") ?? null, left: [...left, ...others, ...loras] };
}

function recipeOf(text: string): Recipe | null {
  try {
    const value: unknown = JSON.parse(text);
    return isRecipe(value) ? value : null;
  } catch {
    return null;
  }
}

function isRecipe(value: unknown): value is Recipe {
  return typeof value === "object" && value !== null && "model" in value && "prompt" in value
    && typeof value.model === "string" && typeof value.prompt === "string";
}

/** The recipe as it was asked for: what ran, and on what, is said anew by the run. */
export function asked(recipe: Recipe): Recipe {
  const { run: _, versions: __, embedded: ___, ...rest } = recipe;
  return rest as Recipe;
}

/** Which picture of its batch it is, from 0. */
export function placeOf(recipe: Recipe): number {
  const run = recipe["run"];
  if (typeof run !== "object" || run === null || !("index" in run)) return 0;
  return typeof run.index === "number" ? run.index : 0;
}

/** Hashes of the pictures that a recipe's methods take. */
export function inputsOf(recipe: Recipe): string[] {
  const found: string[] = [];
  const walk = (value: unknown): void => {
    if (Array.isArray(value)) value.forEach(walk);
    else if (typeof value === "object" && value !== null) {
      if ("sha256" in value && typeof value.sha256 === "string") found.push(value.sha256);
      else Object.values(value).forEach(walk);
    }
  };
  walk(recipe["methods"]);
  return [...new Set(found)];
}
