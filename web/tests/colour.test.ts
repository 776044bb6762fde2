import { expect, test } from "vitest";
import { format, fromHsv, fromOklab, parse, toHsv, toOklab, typed } from "../src/canvas/colour";
import { palette } from "../src/canvas/palette";

const colours = ["#000000", "#ffffff", "#b5392f", "#123456", "#00ff80", "#808080", "#fedcba"];

test.each(colours)("%s survives each space", (hex) => {
  expect(format(parse(hex))).toBe(hex);
  expect(format(fromHsv(toHsv(parse(hex))))).toBe(hex);
  expect(format(fromOklab(toOklab(parse(hex))))).toBe(hex);
});

test("OKLab has white at 1 and greys without colour", () => {
  expect(toOklab([255, 255, 255])[0]).toBeCloseTo(1, 3);
  for (const part of toOklab([90, 90, 90]).slice(1)) expect(part).toBeCloseTo(0, 3);
  expect(toOklab([255, 0, 0])[0]).toBeCloseTo(0.628, 2);
});

test.each([["#ABC", "#aabbcc"], [" 12ab9f ", "#12ab9f"], ["red", null], ["#12345", null]])("%j is typed for %j", (text, hex) => {
  expect(typed(text)).toBe(hex);
});

function pixels(shares: Record<string, number>): Uint8ClampedArray {
  return new Uint8ClampedArray(Object.entries(shares).flatMap(([hex, count]) => Array.from({ length: count }, () => [...parse(hex), 255]).flat()));
}

test("a palette has the picture's colours, light to dark", () => {
  const found = palette(pixels({ "#b5392f": 400, "#2f5d7c": 300, "#f6f1e7": 300, "#1d1b1a": 40 }), 8);
  expect(found).toEqual(["#f6f1e7", "#b5392f", "#2f5d7c", "#1d1b1a"]);
});

test("a picture of one colour has a palette of one, an empty one none", () => {
  expect(palette(pixels({ "#446688": 50 }), 8)).toEqual(["#446688"]);
  expect(palette(new Uint8ClampedArray(0), 8)).toEqual([]);
});

test("the same picture gives the same palette", () => {
  const data = Uint8ClampedArray.from({ length: 40_000 }, (_, i) => (i % 4 === 3 ? 255 : (i * 7919) % 256));
  expect(palette(data, 12)).toEqual(palette(data, 12));
});
