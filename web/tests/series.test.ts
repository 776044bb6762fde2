// Lines of a curve are told apart by every kind of sight, in light and dark.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";

type Colour = readonly [number, number, number];

// What is seen without one kind of cone, of linear red, green, blue (Machado, Oliveira, Fernandes 2009).
const SIGHTS: Record<string, readonly Colour[]> = {
  usual: [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
  protanopia: [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
  deuteranopia: [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
  tritanopia: [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.3039]],
};
const APART = 0.15; // in OKLab; a step that is seen at once, of thin lines too
const CONTRAST = 3; // of graphics, by WCAG

const tokens = readFileSync(join(import.meta.dirname, "../src/shell/tokens.css"), "utf-8");

function colour(name: string, dark: boolean): Colour {
  const [, given = ""] = new RegExp(`--${name}: ([^;]+);`).exec(tokens) ?? [];
  const [, other] = /^var\(--([\w-]+)\)$/.exec(given) ?? [];
  if (other !== undefined) return colour(other, dark);
  const hex = given.match(/#[0-9a-f]{6}/g)?.[dark ? 1 : 0] ?? "";
  const part = (at: number) => {
    const value = Number.parseInt(hex.slice(at, at + 2), 16) / 255;
    return value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
  };
  return [part(1), part(3), part(5)];
}

function times(matrix: readonly Colour[], [a, b, c]: Colour): Colour {
  const [x = 0, y = 0, z = 0] = matrix.map(([p, q, r]) => Math.min(1, Math.max(0, p * a + q * b + r * c)));
  return [x, y, z];
}

function lab(linear: Colour): Colour {
  const cones = times([[0.4122215, 0.5363325, 0.0514459], [0.2119035, 0.6806995, 0.1073970], [0.0883025, 0.2817188, 0.6299787]], linear);
  const [l, m, s] = [Math.cbrt(cones[0]), Math.cbrt(cones[1]), Math.cbrt(cones[2])];
  return [
    0.2104543 * l + 0.7936178 * m - 0.004072 * s, 1.9779985 * l - 2.4285922 * m + 0.4505937 * s,
    0.025904 * l + 0.7827718 * m - 0.8086758 * s,
  ];
}

function light([red, green, blue]: Colour): number {
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
}

const names = [0, 1, 2, 3].map((k) => `series-${k}`);

test.each([false, true])("each is seen on the surface (dark: %s)", (dark) => {
  for (const name of names) {
    const [low = 0, high = 0] = [light(colour(name, dark)), light(colour("surface", dark))].sort((a, b) => a - b);
    expect((high + 0.05) / (low + 0.05), name).toBeGreaterThan(CONTRAST);
  }
});

test.each(Object.keys(SIGHTS).flatMap((sight) => [[sight, false], [sight, true]] as const))("%s tells them apart (dark: %s)", (sight, dark) => {
  const seen = names.map((name) => lab(times(SIGHTS[sight] ?? [], colour(name, dark))));
  for (const [k, a] of seen.entries()) {
    for (const b of seen.slice(k + 1)) expect(Math.hypot(a[0] - b[0], a[1] - b[1], a[2] - b[2])).toBeGreaterThan(APART);
  }
});
