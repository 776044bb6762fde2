import { describe, expect, test } from "vitest";
import type { MethodInfo } from "../src/api/client";
import { curveOf, path, scale, ticks } from "../src/film/curve";
import { frames, measured, over, rowName, sweepable, sweepableOf, values, type Range, type Sweepable } from "../src/film/sweep";
import { table } from "../src/film/table";
import { at } from "../src/film/varied";
import { fieldsOf } from "../src/forms/fields";
import { freshSettings } from "../src/run/settings";
import { grids, lines } from "../src/train/curves";

const CURVE = `sdedit.t0,pictures,kernel,kernel low,kernel high,rms,rms low,rms high,chosen
0.2,3,0.5,0.4,0.6,0.05,0.04,0.06,
0.5,3,,,,0.1,0.09,0.11,x
`;

const METHOD: MethodInfo = {
  id: "sdedit", name: "SDEdit", text: "", verb: true, slot: "start", presets: {}, unavailable: "",
  fields: {
    type: "object", required: ["image", "file"],
    properties: {
      t0: { anyOf: [{ type: "number", minimum: 0, maximum: 1 }, { type: "null" }], auto: [0.05, 1] },
      repeats: { type: "integer", minimum: 1, maximum: 100, default: 1 },
      scale: { type: "number", minimum: 0, default: 3 },
      alpha_bar: { anyOf: [{ type: "number", exclusiveMinimum: 0, maximum: 1 }] },
      invert: { type: "boolean", default: false },
      noise: { type: "string", enum: ["auto", "step"], default: "auto" },
      window: { type: "array", default: [0.2, 1], prefixItems: [{ type: "number", minimum: 0, maximum: 1 }, { type: "number", minimum: 0, maximum: 1 }] },
      extend: { type: "array", default: [0, 8, 0, 0], prefixItems: [{ type: "integer" }, { type: "integer" }, { type: "integer" }, { type: "integer" }] },
      caption: { type: "string", default: "" },
      edited: { type: "array", items: { type: "string" }, default: [] },
      file: { type: "string", format: "weights", offered: ["a.safetensors", "b.safetensors"] },
      clip: { anyOf: [{ type: "string", format: "weights" }, { type: "null" }], default: null, offered: ["clip"] },
      only: { type: "string", format: "denoiser", default: "auto", offered: [] },
      image: { type: "object", format: "image" },
      mask: { anyOf: [{ type: "object", format: "image" }, { type: "null" }], default: null },
      key: { anyOf: [{ type: "string", format: "password" }, { type: "null" }], default: null },
      grow: { type: "integer", default: 0, needs: ["mask"] },
      odd: { type: "object" },
    },
  },
};

function range(of: Partial<Sweepable> & { shape: Sweepable["shape"] }, more: Partial<Range> = {}): Range {
  const { low, high, ...one } = sweepableOf("ilvr.kernel", "Kernel", of);
  return { ...one, low: [...low], high: [...high], count: 7, lines: "", ...more };
}

describe("a sweep", () => {
  test("has its values as the server reads them, each once", () => {
    const t0 = range({ shape: "numbers", low: [0.2], high: [0.9] }, { field: "sdedit.t0", count: 8 });
    expect(over(t0)).toBe("sdedit.t0=0.2,0.3,0.4,0.5,0.6,0.7,0.8,0.9");
    expect(values(range({ shape: "numbers", low: [1], high: [3], whole: true }, { count: 9 }))).toEqual([1, 2, 3]);
    expect(values(range({ shape: "numbers", low: [0.9], high: [0.1] }, { count: 3 }))).toEqual([0.1, 0.5, 0.9]);
    expect(values(range({ shape: "numbers", low: [0, 1], high: [0.5, 1] }, { count: 3 }))).toEqual([[0, 1], [0.25, 1], [0.5, 1]]);
    expect(values(range({ shape: "choices", choices: ["cubic", "box", null] }))).toEqual(["cubic", "box", null]);
    expect(values(range({ shape: "words" }, { lines: "red apple, oil\n\n rose \nrose" }))).toEqual(["red apple, oil", "rose"]);
    expect(values(range({ shape: "texts" }, { lines: "a | b\nc" }))).toEqual([["a", "b"], ["c"]]);
    expect(values(range({ shape: "words" }, { lines: Array.from({ length: 99 }, (_, k) => `${k}`).join("\n") }))).toHaveLength(25);
  });

  test("is measured by the server where it is of a method's numbers, or of steps", () => {
    const of = (field: string, shape: Sweepable["shape"], low = [0]) => measured(sweepableOf(field, "", { shape, low }));
    expect([of("sdedit.t0", "numbers"), of("steps", "numbers")]).toEqual([true, true]);
    expect([of("seed", "numbers"), of("adapters.0", "numbers"), of("cfg.window", "numbers", [0, 1]), of("ilvr.kernel", "choices")]).toEqual([false, false, false, false]);
  });

  test("has a frame for each value, whichever of its children have ended", () => {
    const child = (name: string, state: string, sha256?: string) => ({
      id: name, state, name, results: sha256 ? [{ sha256, media_type: "image/png" }] : [],
    });
    const swept = (place: number) => `pictures/1-${place + 1}-0.png`;
    const made = frames([0.1, 0.5, 0.9], [child(swept(2), "running"), child(swept(0), "done", "aa")]);
    expect(made.map((frame) => [frame.sha256, frame.state])).toEqual([["aa", "done"], [null, "queued"], [null, "running"]]);
    const long = "words ".repeat(99);
    const all = [`${long}1`, `${long}2`];
    const names = all.map((value, k) => rowName(k, "prompt", value));
    expect(names.every((name) => name.length <= 200)).toBe(true);
    const others = [child(names[1] ?? "", "done", "bb"), child("another", "done", "cc")];
    expect(frames(all, others).map((frame) => [frame.value, frame.sha256])).toEqual([[all[0], null], [all[1], "bb"]]);
  });

  test("takes every field that acts and can have more than one value", () => {
    const given = { image: "guide", mask: null, window: [0, 0.5], caption: "a rose" };
    const found = new Map(sweepable("sdedit", fieldsOf(METHOD), given).map((one) => [one.field.slice(7), one]));
    expect([...found.keys()]).toEqual([
      "t0", "repeats", "scale", "alpha_bar", "invert", "noise", "window", "extend", "caption", "edited", "file", "clip", "image", "mask",
    ]);
    const ends = (name: string) => [found.get(name)?.low, found.get(name)?.high, found.get(name)?.whole];
    expect(ends("t0")).toEqual([[0.05], [1], false]);
    expect(ends("repeats")).toEqual([[1], [10], true]);
    expect(ends("scale")).toEqual([[0], [6], false]);
    expect(ends("alpha_bar")).toEqual([[0.01], [1], false]);
    expect(ends("window")).toEqual([[0, 0.5], [0.25, 0.5], false]);
    expect(ends("extend")).toEqual([[0, 8, 0, 0], [16, 24, 16, 16], true]);
    const choices = (name: string) => found.get(name)?.choices;
    expect([choices("invert"), choices("noise"), choices("file"), choices("clip")]).toEqual([
      [false, true], ["auto", "step"], ["a.safetensors", "b.safetensors"], [null, "clip"],
    ]);
    expect([choices("image"), found.get("image")?.pictures]).toEqual([["guide", "picture", "reference"], true]);
    expect([found.get("caption")?.shape, found.get("caption")?.now, found.get("edited")?.shape]).toEqual(["words", "a rose", "texts"]);
    expect(sweepable("sdedit", fieldsOf(METHOD), { mask: "mask" }).map((one) => one.field)).toContain("sdedit.grow");
  });

  test("has settings at each value, which a run can take over", () => {
    const settings = {
      ...freshSettings(), cards: [{ method: "cfg", fields: { scale: 3 } }], adapters: [{ file: "dog.safetensors", sha256: "a", scale: 1 }],
    };
    expect(at(settings, "sdedit.window", [0, 0.5]).fields).toEqual({ window: [0, 0.5] });
    expect(at(settings, "cfg.window", [0, 0.5]).cards).toEqual([{ method: "cfg", fields: { scale: 3, window: [0, 0.5] } }]);
    expect(at(settings, "adapters.0", 0.5).adapters[0]?.scale).toBe(0.5);
    const own = { prompt: "rose", negative: "blur", steps: 9, seed: 4, solver: "heun", spacing: "karras", model: "emoji" };
    for (const [field, value] of Object.entries(own)) expect(at(settings, field, value)).toEqual({ ...settings, [field]: value });
  });
});

describe("curves", () => {
  test("of a sweep have each measure with its interval, gaps left out", () => {
    const curve = curveOf(CURVE);
    expect(curve.axis).toBe("sdedit.t0");
    expect(curve.chosen).toBe(0.5);
    expect(curve.measures.map((measure) => [measure.name, measure.points.length])).toEqual([["kernel", 1], ["rms", 2]]);
    expect(curve.measures[1]?.points[0]).toEqual({ at: 0.2, value: 0.05, low: 0.04, high: 0.06 });
    expect(curveOf("").measures).toEqual([]);
  });

  test("of a training skip what is no number and a line that is being written", () => {
    const [loss] = lines("step,seconds,loss,top\n1,2.0,0.5,nan\n2,3.0,0.4,nan\n3,4.0,0.");
    expect(loss).toEqual({ name: "loss", points: [{ step: 1, value: 0.5 }, { step: 2, value: 0.4 }] });
    expect(grids([{ name: "grid-000020.png" }, { name: "log.csv" }, { name: "grid-000003.png" }]).map((g) => g.step)).toEqual([3, 20]);
  });

  test("are drawn between their ends with round numbers beside", () => {
    const x = scale([0, 1], 10, 110);
    expect(path([[x.of(0), 1], [x.of(0.5), 2]])).toBe("M10.0 1.0L60.0 2.0");
    expect(scale([3, 3], 0, 10).of(3)).toBe(5);
    expect(ticks(0, 1)).toEqual([0, 0.5, 1]);
    expect(ticks(0.05, 0.31, 3)).toEqual([0.1, 0.2, 0.3]);
  });

  test("read quoted cells", () => {
    expect(table('a,b\n"x, ""y""",2\n').rows[0]?.get("a")).toBe('x, "y"');
  });
});
