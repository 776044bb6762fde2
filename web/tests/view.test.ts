import { describe, expect, test } from "vitest";
import { fit, held, panned, pinched, snapped, toPicture, toScreen, turned, zoomed, type View } from "../src/canvas/view";

const views: View[] = [
  { x: 0, y: 0, zoom: 1, angle: 0 },
  { x: 30, y: -12, zoom: 3.5, angle: 0.7 },
  { x: -200, y: 90, zoom: 0.25, angle: -2.9 },
];
const picture = { width: 256, height: 128 };
const screen = { width: 900, height: 700 };

function near(a: { x: number; y: number }, b: { x: number; y: number }) {
  expect(a.x).toBeCloseTo(b.x, 6);
  expect(a.y).toBeCloseTo(b.y, 6);
}

describe.each(views)("a view at zoom $zoom, angle $angle", (view) => {
  const at = { x: 321, y: 123 };

  test("goes to the screen and back", () => near(toPicture(view, toScreen(view, at)), at));

  test("keeps the point at which it is zoomed or turned", () => {
    for (const next of [zoomed(view, 1.7, at), turned(view, 0.4, at), zoomed(view, 1e9, at)]) {
      near(toPicture(next, at), toPicture(view, at));
    }
  });

  test("keeps below two fingers what was below them", () => {
    const from = [{ x: 100, y: 100 }, { x: 300, y: 120 }] as const;
    const to = [{ x: 140, y: 90 }, { x: 290, y: 330 }] as const;
    const next = pinched(view, from, to);
    near(toPicture(next, to[0]), toPicture(view, from[0]));
    near(toPicture(next, to[1]), toPicture(view, from[1]));
  });
});

test("a picture fits into the screen, in its middle, whichever way it is turned", () => {
  for (const angle of [0, 0.5, Math.PI / 2, -2]) {
    const view = fit(picture, screen, 20, angle);
    near(toScreen(view, { x: 128, y: 64 }), { x: 450, y: 350 });
    for (const corner of [{ x: 0, y: 0 }, { x: 256, y: 0 }, { x: 256, y: 128 }, { x: 0, y: 128 }]) {
      const { x, y } = toScreen(view, corner);
      expect(x).toBeGreaterThan(19);
      expect(y).toBeGreaterThan(19);
      expect(x).toBeLessThan(881);
      expect(y).toBeLessThan(681);
    }
  }
});

test("a picture far smaller than the screen is enlarged by a whole number", () => {
  expect(fit({ width: 64, height: 64 }, screen, 20).zoom).toBe(10);
});

test("nearly upright becomes upright, well turned stays", () => {
  const at = { x: 10, y: 10 };
  expect(snapped(turned(fit(picture, screen, 0), 0.05, at), at).angle).toBeCloseTo(0);
  expect(snapped(turned(fit(picture, screen, 0), Math.PI / 2 - 0.05, at), at).angle).toBeCloseTo(Math.PI / 2);
  expect(snapped(turned(fit(picture, screen, 0), 0.3, at), at).angle).toBeCloseTo(0.3);
});

test("a picture cannot be moved off the screen", () => {
  const view = held(panned(fit(picture, screen, 0), 1e6, -1e6), picture, screen);
  const middle = toScreen(view, { x: 128, y: 64 });
  expect(middle.x).toBeLessThan(screen.width + 400);
  expect(middle.y).toBeGreaterThan(-400);
});
