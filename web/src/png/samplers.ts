// What other programs call solvers and spacings. The names are in samplers.json, which tools/studio.py
// writes of the library's own table, so that both read alike.
import names from "./samplers.json";

export interface Meant {
  solver: string | null;
  spacing: string | null;
  /** Whether a sampler, or a schedule, was named that has no equal here. */
  left: readonly ("Sampler" | "Schedule type")[];
}

const samplers = new Map<string, string>(Object.entries(names.samplers));
const spacings = new Map<string, string | null>(Object.entries(names.spacings));
const automatic = new Map<string, string>(Object.entries(names.automatic));

/** The name's letters and figures in small ones. */
function letters(name: string): string {
  const plain = name.toLowerCase().replaceAll("++", "pp").replace(/_gpu$/, "");
  return plain.replace(/[^a-z0-9]/g, "");
}

/** Solver and spacing of a sampler's and a schedule's names; older programs write both as one. */
export function meant(sampler: string | undefined, schedule: string | undefined): Meant {
  if (!sampler) return { solver: null, spacing: null, left: [] };
  const [, before, behind] = (schedule ? null : /^(.+?)[ _](karras|exponential|k)$/i.exec(sampler)) ?? [];
  const name = before ?? sampler;
  const rule = behind === undefined ? schedule : behind.toLowerCase() === "k" ? "karras" : behind;
  const solver = samplers.get(letters(name)) ?? null;
  const spacing = spacingOf(name, rule);
  return {
    solver, spacing: spacing ?? null,
    left: [...(solver === null ? ["Sampler" as const] : []), ...(spacing === undefined ? ["Schedule type" as const] : [])],
  };
}

/** null: the times that are taken anyway; undefined: there is none like it. */
function spacingOf(sampler: string, schedule: string | undefined): string | null | undefined {
  if (!schedule) return null;
  const plain = letters(schedule);
  const word = plain === "automatic" ? (automatic.get(letters(sampler)) ?? plain) : plain;
  const found = spacings.get(word);
  if (found !== undefined) return found;
  return names.rules.includes(schedule) ? schedule : undefined;
}
