import { describe, expect, test } from "vitest";
import { drawing } from "../src/gallery/tree";
import { grid, moved, revealed, span } from "../src/gallery/virtual";

describe("the virtual list", () => {
  test("tiles fill the width and number as many as there are", () => {
    const of = grid(1000, 5000, 160, 8);
    expect(of.columns).toBe(6);
    expect(of.side * 6 + 5 * 8).toBeCloseTo(1000);
    expect(of.height).toBeCloseTo(Math.ceil(5000 / 6) * (of.side + 8) - 8);
    expect(grid(320, 10, 160, 8).columns).toBe(3);
    expect(grid(320, 0, 160, 8).height).toBe(0);
  });

  test("at every scroll the tiles seen are there, and never many more", () => {
    const of = grid(1000, 5000, 160, 8);
    const row = of.side + 8;
    for (let top = 0; top < of.height; top += 777) {
      const { first, end, above } = span(of, top, 700);
      expect(above).toBeLessThanOrEqual(top);
      expect(first).toBe(Math.round(above / row) * of.columns);
      expect(Math.floor(top / row) * of.columns).toBeGreaterThanOrEqual(first);
      const last = Math.min(5000, (Math.floor((top + 699) / row) + 1) * of.columns);
      expect(end).toBeGreaterThanOrEqual(last);
      expect(end - first).toBeLessThanOrEqual(10 * of.columns);
    }
    expect(span(of, 1e9, 700).end).toBe(5000);
  });

  test("keys move within the grid, and what they reach is scrolled into sight", () => {
    const of = grid(1000, 20, 160, 8);
    expect(moved(of, 0, "ArrowLeft")).toBe(0);
    expect(moved(of, 1, "ArrowDown")).toBe(7);
    expect(moved(of, 18, "ArrowDown")).toBe(18);
    expect(moved(of, 7, "End")).toBe(19);
    expect(revealed(of, 0, 100, 300)).toBe(0);
    expect(revealed(of, 0, 0, 300)).toBeNull();
    expect(revealed(of, 19, 0, 300)).toBeCloseTo(of.height - 300);
  });
});

describe("a lineage", () => {
  const step = (source: string, made: string) => ({ source, made, role: "sdedit.image" });

  test("goes from left to right, each picture once and none over another", () => {
    const steps = [step("photo", "a"), step("photo", "b"), step("a", "c"), step("b", "c"), step("a", "d")];
    const { knots, generations, rows } = drawing(["c", "photo", "a", "b", "d"], steps);
    const at = new Map(knots.map((knot) => [knot.id, knot]));
    expect(generations).toBe(3);
    for (const { source, made } of steps) {
      expect(at.get(source)?.generation).toBeLessThan(at.get(made)?.generation ?? 0);
    }
    for (const a of knots) {
      expect(a.row).toBeGreaterThanOrEqual(0);
      for (const b of knots) {
        if (a.id < b.id && a.generation === b.generation) expect(Math.abs(a.row - b.row)).toBeGreaterThanOrEqual(0.999);
      }
    }
    expect(rows).toBeLessThan(3);
  });

  test("that leads back to itself is drawn all the same", () => {
    const { knots } = drawing(["a", "b"], [step("a", "b"), step("b", "a"), step("a", "a"), step("a", "gone")]);
    expect(knots.map((knot) => knot.id)).toEqual(["a", "b"]);
    expect(drawing([], []).rows).toBe(0);
  });
});
