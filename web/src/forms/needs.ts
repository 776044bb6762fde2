// What a field needs of others to do anything: `mask`, `!t0`, `mode=dynamic`, `art!=none`,
// `resample>1`, `image~picture`; alternatives joined by |. The server refuses what is idle, so the
// form leaves it out.
const NEED = /^(!?)([a-z0-9_.]+)(?:(!?=|>|~)(.+))?$/;

function there(value: unknown): boolean {
  if (Array.isArray(value)) return value.some(Boolean);
  return value !== null && value !== undefined && Boolean(value);
}

function holds(part: string, values: Record<string, unknown>): boolean {
  const [, no, field, sign, wanted] = NEED.exec(part) ?? [];
  if (field === undefined) return true; // written as none that is known: the server will say
  const value = values[field];
  if (sign === "~") return true; // pictures are all that a form gives
  if (sign === ">") return Number(value) > Number(wanted);
  if (sign !== undefined) {
    const text = typeof value === "boolean" ? (value ? "yes" : "no") : String(value);
    const same = (wanted ?? "").split(",").some((one) => one === text || Number(one) === value);
    return same === (sign === "=");
  }
  return there(value) !== (no === "!");
}

export function met(need: string, values: Record<string, unknown>): boolean {
  return need.split("|").some((part) => holds(part, values));
}
