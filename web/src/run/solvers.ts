// Solvers that a run may name: a name alone, or with its numbers, as a recipe has it.
import type { Schemas } from "../api/client";

export type Solver = Schemas["Solver"];
type Name = Schemas["SolverName"];

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

/** Its name, and its numbers where it has some. */
export function solverText(solver: Solver): string {
  if (typeof solver === "string") return solver;
  const { solver: name, ...numbers } = solver;
  return [name, ...Object.entries(numbers).map(([key, value]) => `${key} ${value}`)].join(" · ");
}
