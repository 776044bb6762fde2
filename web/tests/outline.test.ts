import { expect, test } from "vitest";
import { discs, radius, trace, type Sink } from "../src/canvas/outline";
import { boxOf, WIDEST, type Stroke } from "../src/document/marks";

function stroke(points: number[], size = 10): Stroke {
  return { kind: "stroke", id: "a", points, size, color: "#102030", opacity: 1, erase: false };
}

const wave = Array.from({ length: 60 }, (_, i) => [i * 3, 20 + 15 * Math.sin(i / 4), 0.2 + (0.6 * i) / 60]).flat();

test("what was drawn of a stroke stays as it is while it grows", () => {
  let before = discs(stroke(wave.slice(0, 9)), false);
  for (let end = 12; end <= wave.length; end += 3) {
    const now = discs(stroke(wave.slice(0, end)), false);
    expect(now.slice(0, before.length)).toEqual(before);
    before = now;
  }
});

test("a stroke ends where the pointer was lifted", () => {
  const shape = discs(stroke(wave), true);
  expect(shape.at(-1)).toMatchObject({ x: wave.at(-3), y: wave.at(-2) });
});

test("a tap is a dot, as wide as the brush", () => {
  expect(discs(stroke([7, 8, 0.5]), true)).toEqual([{ x: 7, y: 8, radius: 5 }]);
});

test("pressure makes it wider: at half of it the brush's own size", () => {
  expect(radius(10, 0.5)).toBe(5);
  expect(radius(10, 1)).toBeCloseTo(10 * WIDEST);
  expect(radius(10, 0)).toBeLessThan(radius(10, 0.2));
  expect(radius(0.1, 0)).toBeGreaterThan(0);
});

test("a stroke is within its box", () => {
  const box = boxOf(stroke(wave, 12));
  for (const { x, y, radius: reach } of discs(stroke(wave, 12), true)) {
    expect(x - reach).toBeGreaterThanOrEqual(box.left);
    expect(y + reach).toBeLessThanOrEqual(box.bottom);
  }
});

test("discs and joints turn the same way, so that they add up", () => {
  const areas: number[] = [];
  let ring: [number, number][] = [];
  const sink: Sink = {
    moveTo: (x, y) => (ring = [[x, y]]),
    lineTo: (x, y) => void ring.push([x, y]),
    arc: () => (ring = []),
    closePath: () => {
      if (ring.length > 2) areas.push(ring.reduce((sum, [x, y], i) => {
        const [nextX, nextY] = ring[(i + 1) % ring.length] ?? [0, 0];
        return sum + x * nextY - nextX * y;
      }, 0) / 2);
    },
  };
  trace(sink, discs(stroke(wave), true));
  expect(areas.length).toBeGreaterThan(40);
  expect(areas.every((area) => area > 0)).toBe(true); // as arcs do, with y down
});

test("a part of a stroke begins with the joint that leads to it", () => {
  const moves: number[][] = [];
  const sink: Sink = { moveTo: (x, y) => void moves.push([x, y]), lineTo() {}, arc() {}, closePath() {} };
  trace(sink, [{ x: 0, y: 0, radius: 2 }, { x: 10, y: 0, radius: 2 }], 1);
  expect(moves).toHaveLength(2);
});
