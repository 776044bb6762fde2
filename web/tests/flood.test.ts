import { expect, test } from "vitest";
import { flood } from "../src/canvas/flood";

/** Rows of letters, each a colour. */
function ground(rows: string[], blocked?: (pixel: number) => boolean) {
  const colours: Record<string, number[]> = { ".": [255, 255, 255, 255], "#": [0, 0, 0, 255], "-": [240, 240, 240, 255] };
  const data = new Uint8Array(rows.join("").split("").flatMap((sign) => colours[sign] ?? []));
  return { width: rows[0]?.length ?? 0, height: rows.length, data, ...(blocked ? { blocked } : {}) };
}

function area(spans: number[]): number {
  let sum = 0;
  for (let i = 0; i < spans.length; i += 3) sum += (spans[i + 2] ?? 0) - (spans[i + 1] ?? 0);
  return sum;
}

const ring = ["......", ".####.", ".#..#.", ".#..#.", ".####.", "......"];

test("an area ends at its outline", () => {
  expect(flood(ground(ring), 2, 2, 0)).toEqual([2, 2, 4, 3, 2, 4]);
  expect(area(flood(ground(ring), 0, 0, 0))).toBe(36 - 16);
  expect(area(flood(ground(ring), 1, 1, 0))).toBe(12);
});

test("tolerance takes in what is near", () => {
  const rows = [".-.-", "-.-#"];
  expect(area(flood(ground(rows), 0, 0, 0))).toBe(1);
  expect(area(flood(ground(rows), 0, 0, 15))).toBe(7);
  expect(area(flood(ground(rows), 0, 0, 255))).toBe(8);
});

test("what is blocked ends it whatever its colour", () => {
  expect(area(flood(ground(["......"], (pixel) => pixel === 3), 0, 0, 0))).toBe(3);
  expect(flood(ground(["......"], () => true), 0, 0, 0)).toEqual([]);
});

test("outside there is nothing", () => expect(flood(ground(ring), -1, 2, 255)).toEqual([]));

test("a spiral of a thousand pixels a side is found, whose every turn must be gone around", () => {
  const side = 400;
  const data = new Uint8Array(side * side * 4).fill(255);
  for (let i = 0; i < side; i += 4) for (let j = 0; j < side - 2; j++) data.set([0, 0, 0], ((i + 1) * side + (i % 8 ? j : side - 1 - j)) * 4);
  expect(area(flood({ width: side, height: side, data }, 0, 0, 10))).toBe(side * side - 100 * (side - 2));
});
