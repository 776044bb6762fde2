// Strict reading of JSON from outside: every field that is there must be known and of its kind, and a
// fault names its place.

export class Fault extends Error {
  override name = "Fault";
}

export type Fields = Record<string, unknown>;

export function fields(value: unknown, at: string, names: readonly string[]): Fields {
  if (typeof value !== "object" || value === null || Array.isArray(value)) throw new Fault(`${at}: no object`);
  const found: Fields = { ...value };
  for (const name of names) if (!Object.hasOwn(found, name)) throw new Fault(`${at}.${name}: missing`);
  for (const name of Object.keys(found)) if (!names.includes(name)) throw new Fault(`${at}.${name}: unknown`);
  return found;
}

export function list<T>(value: unknown, at: string, read: (item: unknown, at: string) => T): T[] {
  if (!Array.isArray(value)) throw new Fault(`${at}: no list`);
  return value.map((item, i) => read(item, `${at}[${i}]`));
}

export function number(value: unknown, at: string, least: number, most: number): number {
  if (typeof value !== "number" || !(value >= least && value <= most)) {
    throw new Fault(`${at}: no number from ${least} to ${most}`);
  }
  return value;
}

export function whole(value: unknown, at: string, least: number, most: number): number {
  const found = number(value, at, least, most);
  if (!Number.isInteger(found)) throw new Fault(`${at}: no whole number`);
  return found;
}

export function text(value: unknown, at: string, pattern?: RegExp): string {
  if (typeof value !== "string" || (pattern && !pattern.test(value))) throw new Fault(`${at}: no such text`);
  return value;
}

export function flag(value: unknown, at: string): boolean {
  if (typeof value !== "boolean") throw new Fault(`${at}: neither true nor false`);
  return value;
}

export function oneOf<T extends string>(value: unknown, at: string, allowed: readonly T[]): T {
  const found = allowed.find((one) => one === value);
  if (found === undefined) throw new Fault(`${at}: none of ${allowed.join(", ")}`);
  return found;
}

export function optional<T>(value: unknown, read: (value: unknown) => T): T | null {
  return value === null ? null : read(value);
}
