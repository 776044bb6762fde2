// A picture's main colours: k-means over a histogram in OKLab. It begins at the commonest colour and
// then at those that are far from all before and not too rare, so that a small bright spot is not lost in
// a large sky, and the same picture always gives the same palette.
import { format, fromOklab, toOklab, type Triple } from "./colour";

/** Until a picture is there: earths, greens, skies, skins, and the two ends. */
export const FIRST: readonly string[] = [
  "#1d1b1a", "#f6f1e7", "#7a4a2e", "#c98f5a", "#e9c9a6", "#b5392f", "#e6a532", "#4f6b3a", "#9db86b", "#2f5d7c",
  "#86b8d9", "#6c5b8c",
];

const ROUNDS = 12;
const BIN = 0.025; // of OKLab, a side
const SAME = 0.045; // the eye takes nearer colours for one
const RARE = 0.35; // power of a colour's share; 0 would choose by distance alone

interface Bin {
  colour: Triple;
  count: number;
}

/** data: RGBA. At most `count` colours, light to dark; fewer where the picture has fewer. */
export function palette(data: Uint8ClampedArray | Uint8Array, count: number): string[] {
  const bins = binned(data);
  const centres = settled(bins, seeds(bins, count));
  return apart(centres).sort((a, b) => b[0] - a[0]).map((centre) => format(fromOklab(centre)));
}

/** Means of the cells of a grid that have colours in them. */
function binned(data: Uint8ClampedArray | Uint8Array): Bin[] {
  const cells = new Map<string, Bin & { colour: [number, number, number] }>();
  for (let i = 0; i + 3 < data.length; i += 4) {
    if ((data[i + 3] ?? 0) < 128) continue;
    const colour = toOklab([data[i] ?? 0, data[i + 1] ?? 0, data[i + 2] ?? 0]);
    const key = colour.map((part) => Math.round(part / BIN)).join();
    const cell = cells.get(key) ?? { colour: [0, 0, 0], count: 0 };
    for (const axis of [0, 1, 2] as const) cell.colour[axis] += colour[axis];
    cell.count++;
    cells.set(key, cell);
  }
  return [...cells.values()].map(({ colour: [l, a, b], count }) => ({ colour: [l / count, a / count, b / count], count }));
}

function seeds(bins: readonly Bin[], count: number): Triple[] {
  const chosen: Triple[] = [];
  while (chosen.length < Math.min(count, bins.length)) {
    let [best, most] = [bins[0], 0];
    for (const bin of bins) {
      const far = Math.min(1, ...chosen.map((other) => distance(bin.colour, other)));
      const worth = chosen.length ? far * bin.count ** RARE : bin.count;
      if (worth > most) [best, most] = [bin, worth];
    }
    if (!best || most === 0) break;
    chosen.push(best.colour);
  }
  return chosen;
}

function settled(bins: readonly Bin[], start: readonly Triple[]): Triple[] {
  let centres = [...start];
  for (let round = 0; round < ROUNDS; round++) {
    const groups = centres.map((): Bin[] => []);
    for (const bin of bins) groups[nearest(bin.colour, centres)]?.push(bin);
    centres = centres.map((centre, i) => mean(groups[i] ?? []) ?? centre);
  }
  return centres;
}

/** Without those that look like one before. */
function apart(centres: readonly Triple[]): Triple[] {
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

function mean(bins: readonly Bin[]): Triple | null {
  const sum: [number, number, number] = [0, 0, 0];
  let count = 0;
  for (const bin of bins) {
    for (const axis of [0, 1, 2] as const) sum[axis] += bin.colour[axis] * bin.count;
    count += bin.count;
  }
  return count ? [sum[0] / count, sum[1] / count, sum[2] / count] : null;
}
