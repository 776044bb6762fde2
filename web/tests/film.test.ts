import { describe, expect, test } from "vitest";
import { curveOf, path, scale, ticks } from "../src/film/curve";
import { filmOf, frames, over, rowName, sweepable, values, valuesOf } from "../src/film/sweep";
import { table } from "../src/film/table";
import { grids, lines } from "../src/train/curves";

const CURVE = `sdedit.t0,pictures,kernel,kernel low,kernel high,rms,rms low,rms high,chosen
0.2,3,0.5,0.4,0.6,0.05,0.04,0.06,
0.5,3,,,,0.1,0.09,0.11,x
`;

describe("a sweep", () => {
  test("has its values as the server reads them, each once", () => {
    const range = { field: "sdedit.t0", low: 0.2, high: 0.9, count: 8, whole: false, choices: null };
    expect(over(range)).toBe("sdedit.t0=0.2,0.3,0.4,0.5,0.6,0.7,0.8,0.9");
    expect(valuesOf(over(range))).toEqual(values(range));
    expect(values({ field: "steps", low: 1, high: 3, count: 9, whole: true, choices: null })).toEqual([1, 2, 3]);
    expect(valuesOf("sdedit.t0=0.1:0.9:5")).toEqual([0.1, 0.3, 0.5, 0.7, 0.9]);
  });

  test("has a frame for each value, whichever of its children have ended", () => {
    const child = (place: number, state: string, sha256?: string) => ({
      id: `job${place}`, state, name: `pictures/1-${place + 1}-0.png`,
      results: sha256 ? [{ sha256, media_type: "image/png" }] : [],
    });
    const made = frames("sdedit.t0", [0.1, 0.5, 0.9], [child(2, "running"), child(0, "done", "aa")]);
    expect(made.map((frame) => [frame.sha256, frame.state])).toEqual([["aa", "done"], [null, "queued"], [null, "running"]]);
  });

  test("of choices is a batch, whose rows say what they are of", () => {
    const kernels = ["cubic", "box"];
    const range = { field: "ilvr.kernel", low: 0, high: 1, count: 7, whole: true, choices: kernels };
    expect(values(range)).toEqual(kernels);
    const rows = kernels.map((value) => ({ name: rowName("ilvr.kernel", value) }));
    expect(filmOf({ kind: "batch", rows })).toEqual({ field: "ilvr.kernel", values: kernels });
    const switched = [false, true].map((value) => ({ name: rowName("cfg.on", value) }));
    expect(filmOf({ kind: "batch", rows: switched })).toEqual({ field: "cfg.on", values: [false, true] });
    expect(filmOf({ kind: "sweep", over: "sdedit.t0=0.1,0.5" })).toEqual({ field: "sdedit.t0", values: [0.1, 0.5] });
    expect(filmOf({ kind: "batch", rows: [{ name: "one" }] })).toBeNull();
    expect(filmOf({ kind: "recipe" })).toBeNull();
    const child = { id: "a", state: "done", name: "ilvr.kernel=box", results: [{ sha256: "bb", media_type: "image/png" }] };
    expect(frames("ilvr.kernel", kernels, [child]).map((frame) => frame.sha256)).toEqual([null, "bb"]);
  });

  test("takes any number of a method, its choices and its switches", () => {
    const found = sweepable("sdedit", {
      t0: { anyOf: [{ type: "number", minimum: 0, maximum: 1 }, { type: "null" }], auto: [0.05, 1], title: "T0" },
      repeats: { type: "integer", minimum: 1, maximum: 100, default: 1, title: "Repeats" },
      scale: { type: "number", minimum: 0, default: 3 },
      alpha_bar: { anyOf: [{ type: "number", exclusiveMinimum: 0, maximum: 1 }] },
      invert: { type: "boolean" }, image: { $ref: "#" }, noise: { type: "string", enum: ["auto", "step"] },
    });
    expect(found.map((one) => [one.field, one.low, one.high, one.whole])).toEqual([
      ["sdedit.t0", 0.05, 1, false], ["sdedit.repeats", 1, 10, true], ["sdedit.scale", 0, 6, false],
      ["sdedit.alpha_bar", 0.01, 1, false], ["sdedit.invert", 0, 1, true], ["sdedit.noise", 0, 1, true],
    ]);
    expect(found.slice(-2).map((one) => one.choices)).toEqual([[false, true], ["auto", "step"]]);
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
