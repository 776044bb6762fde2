// The curve of a sweep: its table as the server writes it, and how it is drawn.
import { table } from "./table";

export interface Measure {
  name: string;
  points: { at: number; value: number; low: number; high: number }[];
}

export interface Curve {
  axis: string;
  measures: Measure[];
  chosen: number | null;
}

/** curve.csv: the axis, pictures, each measure with its interval, and which value is chosen. */
export function curveOf(text: string): Curve {
  const { columns, rows } = table(text);
  const axis = columns[0] ?? "";
  const names = columns.filter((name) => columns.includes(`${name} low`));
  const measures = names.map((name) => ({
    name,
    points: rows.flatMap((row) => {
      const [at, value, low, high] = [axis, name, `${name} low`, `${name} high`].map((key) => number(row.get(key)));
      if (at == null || value == null) return [];
      return [{ at, value, low: low ?? value, high: high ?? value }];
    }),
  })).filter((measure) => measure.points.length > 0);
  const mark = rows.find((row) => row.get("chosen") === "x");
  return { axis, measures, chosen: number(mark?.get(axis)) };
}

export function number(text: string | undefined): number | null {
  if (text === undefined || text.trim() === "") return null;
  const value = Number(text);
  return Number.isFinite(value) ? value : null;
}

export interface Scale {
  low: number;
  high: number;
  of(value: number): number;
}

/** From values to places; a range without width is its middle. */
export function scale(values: readonly number[], from: number, to: number): Scale {
  const low = Math.min(...values);
  const high = Math.max(...values);
  const of = (value: number): number =>
    high > low ? from + ((value - low) / (high - low)) * (to - from) : (from + to) / 2;
  return { low, high, of };
}

/** An SVG path through points. */
export function path(points: readonly (readonly [number, number])[]): string {
  return points.map(([x, y], k) => `${k ? "L" : "M"}${x.toFixed(1)} ${y.toFixed(1)}`).join("");
}

/** Round numbers between two, about so many. */
export function ticks(low: number, high: number, about = 4): number[] {
  if (!(high > low)) return [low];
  const rough = (high - low) / about;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((k) => k * power).find((size) => size >= rough) ?? rough;
  const found: number[] = [];
  for (let k = Math.ceil(low / step - 1e-9); k * step <= high + step * 1e-9; k++) {
    found.push(Number((k * step).toPrecision(12)));
  }
  return found;
}
