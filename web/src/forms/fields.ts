// Fields of a method, read from its JSON Schema, so that a form needs to know no method by name.
import type { MethodInfo } from "../api/client";
import { met } from "./needs";

export type Kind =
  | "number" | "integer" | "yesno" | "choice" | "text" | "texts" | "weights" | "image" | "window" | "numbers" | "rows"
  | "other";

export interface FormField {
  name: string;
  kind: Kind;
  text: string;
  unit: string;
  main: boolean;
  required: boolean;
  nullable: boolean;
  default: unknown;
  min: number | null;
  max: number | null;
  /** Whether min and max themselves are outside. */
  outside: readonly [boolean, boolean];
  /** Bounds between which the server can look for a value itself. */
  span: readonly [number, number] | null;
  choices: readonly string[];
  /** Names of weights that the server has for it; none: it takes no weights, or the server does not say. */
  offered: readonly string[] | null;
  /** Its weights may be a model, or an adapter of one. */
  denoiser: boolean;
  /** How many numbers, of "numbers". */
  length: number;
  /** Only whole numbers. */
  whole: boolean;
  /** What each has, of "rows". */
  parts: readonly FormField[];
  needs: readonly string[];
  /** Nobody is to read it over one's shoulder. */
  secret: boolean;
}

type Schema = Record<string, unknown>;

function isSchema(value: unknown): value is Schema {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function list(value: unknown): unknown[] {
  return Array.isArray(value) ? value : [];
}

function numeric(value: unknown): number | null {
  return typeof value === "number" ? value : null;
}

function isOfWeights(schema: Schema): boolean {
  return schema["format"] === "weights" || schema["format"] === "denoiser";
}

/** Of a number from 0 to 1, such as a time. */
function isTime(schema: unknown): boolean {
  return isSchema(schema) && schema["minimum"] === 0 && schema["maximum"] === 1;
}

function kindOf(schema: Schema): Kind {
  if (schema["format"] === "image") return "image";
  if (isOfWeights(schema)) return "weights";
  if (Array.isArray(schema["enum"])) return "choice";
  switch (schema["type"]) {
    case "number": return "number";
    case "integer": return "integer";
    case "boolean": return "yesno";
    case "string": return "text";
    case "array": {
      const parts = list(schema["prefixItems"]);
      if (parts.length === 2 && parts.every(isTime)) return "window";
      if (parts.length) return "numbers";
      return isSchema(schema["items"]) && schema["items"]["type"] === "string" ? "texts" : "other";
    }
    default: return "other";
  }
}

/** What a schema refers to, else itself. */
function referred(schema: Schema, shared: unknown): Schema {
  const name = /^#\/\$defs\/(\w+)$/.exec(String(schema["$ref"]))?.[1];
  const found = name !== undefined && isSchema(shared) ? shared[name] : undefined;
  return isSchema(found) ? found : schema;
}

function partsOf(schema: Schema, shared: unknown): FormField[] {
  if (schema["type"] !== "array" || !isSchema(schema["items"])) return [];
  const item = referred(schema["items"], shared);
  return item["format"] === "image" ? [] : properties(item, shared);
}

function fieldOf(name: string, whole: Schema, required: boolean, shared: unknown): FormField {
  const choices = list(whole["anyOf"]).filter(isSchema);
  const nullable = choices.some((choice) => choice["type"] === "null");
  const inner = choices.find((choice) => choice["type"] !== "null");
  const schema: Schema = inner ? { ...inner, ...whole } : whole;
  const auto = list(schema["auto"]);
  const [low, high] = [numeric(auto[0]), numeric(auto[1])];
  const parts = partsOf(schema, shared);
  return {
    name,
    kind: parts.length ? "rows" : kindOf(schema),
    text: typeof schema["description"] === "string" ? schema["description"] : "",
    unit: typeof schema["unit"] === "string" ? schema["unit"] : "",
    main: schema["main"] === true,
    required,
    nullable,
    default: schema["default"],
    min: numeric(schema["minimum"]) ?? numeric(schema["exclusiveMinimum"]),
    max: numeric(schema["maximum"]) ?? numeric(schema["exclusiveMaximum"]),
    outside: [numeric(schema["minimum"]) === null, numeric(schema["maximum"]) === null],
    span: low !== null && high !== null ? [low, high] : null,
    choices: list(schema["enum"]).map(String),
    offered: Array.isArray(schema["offered"]) ? schema["offered"].map(String) : null,
    denoiser: schema["format"] === "denoiser",
    length: list(schema["prefixItems"]).length,
    whole: [schema, ...list(schema["prefixItems"])].some((one) => isSchema(one) && one["type"] === "integer"),
    parts,
    needs: list(schema["needs"]).map(String),
    secret: schema["format"] === "password",
  };
}

function properties(schema: Schema, shared: unknown): FormField[] {
  const required = list(schema["required"]);
  if (!isSchema(schema["properties"])) return [];
  return Object.entries(schema["properties"]).flatMap(([name, one]) =>
    isSchema(one) ? [fieldOf(name, one, required.includes(name), shared)] : [],
  );
}

export function fieldsOf(method: MethodInfo): FormField[] {
  return properties(method.fields, method.fields["$defs"]);
}

/** Every field's value: given, else of its default. */
export function valuesOf(fields: readonly FormField[], given: Record<string, unknown>): Record<string, unknown> {
  return Object.fromEntries(fields.map((field) => [field.name, given[field.name] ?? field.default ?? null]));
}

/** Fields that do something beside the others' values, and at this server. */
export function acting(fields: readonly FormField[], given: Record<string, unknown>): FormField[] {
  const values = valuesOf(fields, given);
  return fields.filter((field) => !idle(field) && field.needs.every((need) => met(need, values)));
}

/** Weights that need not be named, of which the server has none. */
function idle(field: FormField): boolean {
  return field.offered?.length === 0 && !field.required && typeof field.default !== "string";
}

/** A slider's ends: the field's own, or where the server would look, or around its default. */
export function ends(field: FormField): [number, number] {
  if (field.span) return [field.span[0], field.span[1]];
  const low = field.min ?? 0;
  const usual = typeof field.default === "number" && field.default > 0 ? field.default : 1;
  const high = field.max ?? 10 * usual;
  return [low, high > 20 * usual + 1 ? Math.ceil(5 * usual) : high]; // up to a million says nothing
}

export function stepOf(field: FormField): number {
  if (field.kind === "integer") return 1;
  const [low, high] = ends(field);
  const span = high - low;
  return span <= 2 ? 0.01 : span <= 20 ? 0.1 : 1;
}

/** Weights as one reads them: of those that are named by their hash its beginning. */
export function weightsLabel(name: string): string {
  return name.replace(/^(.+)@sha256:(.{6}).*$/, "$1 · $2");
}
