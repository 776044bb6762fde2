// A picture's main colours: k-means in OKLab, begun at the means of a median cut, so that the same
// picture always gives the same palette.
import { format, fromOklab, toOklab, type Triple } from "./colour";

/** Until a picture is there: earths, greens, skies, skins, and the two ends. */
export const FIRST: readonly string[] = [
  "#1d1b1a", "#f6f1e7", "#7a4a2e", "#c98f5a", "#e9c9a6", "#b5392f", "#e6a532", "#4f6b3a", "#9db86b", "#2f5d7c",
  "#86b8d9", "#6c5b8c",
];

const ROUNDS = 12;
const SAME = 0.045; // of OKLab; the eye takes nearer ones for one

/** data: RGBA. At most `count` colours, light to dark; fewer where the picture has fewer. */
export function palette(data: Uint8ClampedArray | Uint8Array, count: number): string[] {
  const points: Triple[] = [];
  const stride = 4 * Math.max(1, Math.floor(data.length / 4 / 4096));
  for (let i = 0; i + 3 < data.length; i += stride) {
    if ((data[i + 3] ?? 0) > 127) points.push(toOklab([data[i] ?? 0, data[i + 1] ?? 0, data[i + 2] ?? 0]));
  }
  const centres = settled(points, cut(points, count));
  return apart(centres).sort((a, b) => b[0] - a[0]).map((centre) => format(fromOklab(centre)));
}

/** Means of a median cut: the widest group is halved until there are enough. */
function cut(points: Triple[], count: number): Triple[] {
  const groups = points.length ? [points] : [];
  while (groups.length < count) {
    let widest = { at: -1, axis: 0, spread: 0 };
    groups.forEach((group, at) => {
      for (const axis of [0, 1, 2]) {
        const spread = spreadOf(group, axis);
        if (spread > widest.spread) widest = { at, axis, spread };
      }
    });
    const chosen = groups[widest.at];
    if (!chosen || widest.spread < 1e-6) break;
    const sorted = [...chosen].sort((a, b) => (a[widest.axis] ?? 0) - (b[widest.axis] ?? 0));
    const half = sorted.length >> 1;
    groups.splice(widest.at, 1, sorted.slice(0, half), sorted.slice(half));
  }
  return groups.filter((group) => group.length).map(mean);
}

function settled(points: Triple[], start: Triple[]): Triple[] {
  let centres = start;
  for (let round = 0; round < ROUNDS && centres.length; round++) {
    const groups = centres.map((): Triple[] => []);
    for (const point of points) groups[nearest(point, centres)]?.push(point);
    centres = centres.map((centre, i) => (groups[i]?.length ? mean(groups[i]) : centre));
  }
  return centres;
}

/** Without those that look like one before. */
function apart(centres: Triple[]): Triple[] {
  const kept: Triple[] = [];
  for (const centre of centres) {
    if (kept.every((other) => distance(centre, other) > SAME)) kept.push(centre);
  }
  return kept;
}

function nearest(point: Triple, centres: readonly Triple[]): number {
  let [best, least] = [0, Infinity];
  centres.forEach((centre, i) => {
    const far = distance(point, centre);
    if (far < least) [best, least] = [i, far];
  });
  return best;
}

function distance(a: Triple, b: Triple): number {
  return Math.hypot(a[0] - b[0], a[1] - b[1], a[2] - b[2]);
}

function mean(points: readonly Triple[]): Triple {
  const sum = [0, 0, 0] as [number, number, number];
  for (const point of points) for (const axis of [0, 1, 2] as const) sum[axis] += point[axis];
  return [sum[0] / points.length, sum[1] / points.length, sum[2] / points.length];
}

function spreadOf(points: readonly Triple[], axis: number): number {
  let [least, most] = [Infinity, -Infinity];
  for (const point of points) {
    least = Math.min(least, point[axis] ?? 0);
    most = Math.max(most, point[axis] ?? 0);
  }
  return most - least;
}

