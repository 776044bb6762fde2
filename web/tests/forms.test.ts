// Forms are made of schemas: what a field is, when it acts, what is sent.
import { describe, expect, test } from "vitest";
import type { MethodInfo } from "../src/api/client";
import { acting, ends, fieldsOf, stepOf, weightsLabel } from "../src/forms/fields";
import { met } from "../src/forms/needs";
import { sourceOf } from "../src/forms/sources";
import { obstacle } from "../src/run/offered";

const TIME = { type: "number", minimum: 0, maximum: 1 };
const METHOD: MethodInfo = {
  id: "shift", name: "Shift", text: "", verb: true, slot: "start", presets: {}, unavailable: "",
  fields: {
    type: "object", required: ["image"],
    properties: {
      image: { type: "object", format: "image", properties: { sha256: { type: "string" } } },
      mask: { anyOf: [{ type: "object", format: "image" }, { type: "null" }], default: null },
      by: { type: "number", default: 1, minimum: 0, maximum: 9, main: true, unit: "px", description: "how far" },
      t0: { anyOf: [{ type: "number", minimum: 0, maximum: 1 }, { type: "null" }], default: null, auto: [0.05, 1] },
      weight: { type: "number", default: 10, minimum: 0, maximum: 1_000_000 },
      window: { type: "array", unit: "t", default: [0, 1], prefixItems: [TIME, TIME] },
      extend: { type: "array", unit: "px", default: [0, 0, 0, 0], prefixItems: [{}, {}, {}, {}] },
      words: { type: "array", items: { type: "string" }, default: [] },
      mode: { type: "string", enum: ["a", "b"], default: "a" },
      grow: { type: "integer", default: 0, needs: ["mask|by>3"] },
      odd: { type: "object" },
      regions: { type: "array", items: { $ref: "#/$defs/Region" }, default: [] },
    },
    $defs: {
      Region: {
        type: "object", required: ["words"],
        properties: {
          words: { type: "string" },
          box: { anyOf: [{ type: "array", prefixItems: [{}, {}, {}, {}] }, { type: "null" }], default: null },
        },
      },
    },
  },
};

const fields = fieldsOf(METHOD);
const field = (name: string) => {
  const found = fields.find((one) => one.name === name);
  if (!found) throw new Error(name);
  return found;
};

test("kinds are read of the schema", () => {
  expect(Object.fromEntries(fields.map((one) => [one.name, one.kind]))).toEqual({
    image: "image", mask: "image", by: "number", t0: "number", weight: "number", window: "window",
    extend: "numbers", words: "texts", mode: "choice", grow: "integer", odd: "other",
    regions: "rows",
  });
  expect(field("regions").parts.map((part) => [part.name, part.kind, part.required])).toEqual([
    ["words", "text", true], ["box", "numbers", false],
  ]);
  expect(field("t0")).toMatchObject({ nullable: true, min: 0, max: 1, span: [0.05, 1] });
  expect(field("image").required).toBe(true);
});

test("a slider goes where it says something", () => {
  expect(ends(field("by"))).toEqual([0, 9]);
  expect(ends(field("t0"))).toEqual([0.05, 1]);
  expect(ends(field("weight"))).toEqual([0, 50]);
  expect(stepOf(field("grow"))).toBe(1);
});

test("what must be given is the painting, a mask is the mask", () => {
  expect(sourceOf(field("image"))).toBe("guide");
  expect(sourceOf(field("mask"))).toBe("mask");
});

describe("needs", () => {
  test.each([
    ["mask", { mask: null }, false], ["mask", { mask: "x" }, true], ["!t0", { t0: 0.5 }, false], ["!t0", { t0: null }, true],
    ["mode=dynamic", { mode: "static" }, false], ["form=angle,directional", { form: "directional" }, true],
    ["art!=none", { art: "auto" }, true], ["art!=none", { art: "none" }, false], ["push!=0", { push: 0 }, false],
    ["noised=no", { noised: false }, true], ["noised=no", { noised: true }, false], ["noised=yes", { noised: true }, true],
    ["resample>1", { resample: 2 }, true], ["image~picture", {}, true], ["mask|by>3", { mask: null, by: 4 }, true],
    ["extend", { extend: [0, 0, 0, 0] }, false], ["extend", { extend: [0, 4, 0, 0] }, true],
  ])("%s of %j is %s", (need, values, wanted) => {
    expect(met(need, values)).toBe(wanted);
  });

  test("what is idle is not shown", () => {
    const names = (given: Record<string, unknown>) => acting(fields, given).map((one) => one.name);
    expect(names({})).not.toContain("grow");
    expect(names({ by: 5 })).toContain("grow");
  });
});

describe("weights", () => {
  function of(offered: string[] | undefined, required: string[]): MethodInfo {
    const named = offered ? { offered } : {};
    return {
      ...METHOD, fields: {
        type: "object", required,
        properties: {
          file: { type: "string", format: "weights", ...named },
          clip: { anyOf: [{ type: "string", format: "weights" }, { type: "null" }], default: null, ...named },
          art: { type: "string", format: "denoiser", default: "auto", ...named },
          also: { type: "array", items: { type: "string", format: "weights" }, default: [], ...named },
        },
      },
    };
  }

  const names = (method: MethodInfo) => acting(fieldsOf(method), {}).map((one) => one.name);

  test("that are not there make a method one that cannot run, for the reason that the server gives", () => {
    const why = "controlnet: needs weights (file) that this server does not offer";
    expect(obstacle("shift", { ...of([], ["file"]), unavailable: why })).toBe(why);
    expect(obstacle("shift", of([], ["file"]))).toBeNull();
    expect(obstacle("gone", undefined)).toContain("gone");
  });

  test("of one's own trainings are read without the whole of their hash", () => {
    expect(weightsLabel(`my-edges.safetensors@sha256:${"ab".repeat(32)}`)).toBe("my-edges.safetensors · ababab");
    expect(["edges.safetensors", "org/name", "auto"].map(weightsLabel)).toEqual(["edges.safetensors", "org/name", "auto"]);
  });

  test("are chosen of what there is; where there is nothing, only what has another word is asked for", () => {
    const fields = fieldsOf(of(["a.safetensors"], ["file"]));
    expect(fields.map((one) => one.kind)).toEqual(["weights", "weights", "weights", "texts"]);
    expect(fields[0]?.offered).toEqual(["a.safetensors"]);
    expect(names(of(["a.safetensors"], ["file"]))).toEqual(["file", "clip", "art", "also"]);
    expect(names(of([], ["file"]))).toEqual(["file", "art"]);
    expect(names(of(undefined, ["file"]))).toEqual(["file", "clip", "art", "also"]);
  });
});
