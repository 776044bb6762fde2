// Solvers and spacings of their times that a run may name, as a recipe has them: a name alone, a
// solver with its numbers, times themselves.
import type { Schemas } from "../api/client";

export type Solver = Schemas["Solver"];
export type Spacing = Schemas["Spacing"];
type Name = Schemas["SolverName"];
type SpacingName = Schemas["SpacingName"];

const KNOWN: Record<Name, true> = { // the server's own, or this does not compile
  "ddpm": true, "ddim": true, "euler": true, "euler-a": true, "heun": true, "edm": true, "dpmpp-2m": true, "lcm": true,
  "dpmpp-2m-sde": true, "plms": true, "plms-prk": true, "plms2": true, "iplms": true, "pie": true, "prk": true,
};

export const SOLVERS = Object.keys(KNOWN).filter(isName);

function isName(value: unknown): value is Name {
  return typeof value === "string" && Object.hasOwn(KNOWN, value);
}

export function isSolver(value: unknown): value is Solver {
  return isName(value) || (typeof value === "object" && value !== null && "solver" in value && isName(value.solver));
}

const TIMES: Record<SpacingName, true> = { // of the server's own too
  "uniform": true, "leading": true, "trailing": true, "karras": true, "logsnr": true, "v-spliced": true, "v-ddpm": true,
  "v-log": true, "v-crash": true, "model": true, "shifted": true,
};

/** Those that are placed for any number of steps. */
export const SPACINGS = Object.keys(TIMES);

export function isSpacing(value: unknown): value is Spacing {
  return typeof value === "string" || (Array.isArray(value) && value.every((time) => typeof time === "number"));
}

/** Its name, and its numbers where it has some. */
export function solverText(solver: Solver): string {
  if (typeof solver === "string") return solver;
  const { solver: name, ...numbers } = solver;
  return [name, ...Object.entries(numbers).map(([key, value]) => `${key} ${value}`)].join(" · ");
}
