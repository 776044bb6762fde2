// The shape of a stroke: perfect-freehand's steadied points, and the discs and joints between them.
// Points before the newest never move, so that while one paints only what is new has to be drawn.
import { getStrokePoints } from "perfect-freehand";
import { WIDEST, type Stroke } from "../document/marks";

export interface Disc {
  x: number;
  y: number;
  radius: number;
}

/** Where a path is put; a canvas context or a Path2D. */
export type Sink = Pick<CanvasPath, "moveTo" | "lineTo" | "arc" | "closePath">;

const STEADY = 0.35; // of perfect-freehand's streamline; more lags behind the hand
const THINNING = 2 * (WIDEST - 0.5);
const THINNEST = 0.3; // pixels; less leaves nothing to be seen

export function radius(size: number, pressure: number): number {
  return Math.max(size * (0.5 - THINNING * (0.5 - pressure)), THINNEST);
}

/** ended: the last point is where the pointer was lifted, and not on the way there. */
export function discs(stroke: Pick<Stroke, "points" | "size">, ended: boolean): Disc[] {
  const given: [number, number, number][] = [];
  for (let i = 0; i + 2 < stroke.points.length; i += 3) {
    given.push([stroke.points[i] ?? 0, stroke.points[i + 1] ?? 0, stroke.points[i + 2] ?? 0.5]);
  }
  const [first] = given;
  if (!first) return [];
  if (given.length === 1) return [{ x: first[0], y: first[1], radius: radius(stroke.size, first[2]) }];
  // size 0: every point counts, however near to the first
  return getStrokePoints(given, { streamline: STEADY, size: 0, last: ended }).map((made) => ({
    x: made.point[0], y: made.point[1], radius: radius(stroke.size, made.pressure),
  }));
}

/** Discs from one on, and the joints that lead to them. */
export function trace(sink: Sink, shape: readonly Disc[], from = 0): void {
  for (let i = from; i < shape.length; i++) {
    const disc = shape[i];
    if (!disc) continue;
    sink.moveTo(disc.x + disc.radius, disc.y);
    sink.arc(disc.x, disc.y, disc.radius, 0, 2 * Math.PI);
    sink.closePath();
    const last = shape[i - 1];
    if (last) joint(sink, last, disc);
  }
}

/** The tangents' quadrilateral between two discs, turned as they are, so that all adds up. */
function joint(sink: Sink, a: Disc, b: Disc): void {
  const [dx, dy] = [b.x - a.x, b.y - a.y];
  const length = Math.hypot(dx, dy);
  if (length <= Math.abs(a.radius - b.radius)) return; // one lies in the other
  const lean = Math.acos((a.radius - b.radius) / length);
  const way = Math.atan2(dy, dx);
  const corner = (disc: Disc, angle: number): [number, number] => [
    disc.x + disc.radius * Math.cos(angle), disc.y + disc.radius * Math.sin(angle),
  ];
  sink.moveTo(...corner(a, way - lean));
  sink.lineTo(...corner(b, way - lean));
  sink.lineTo(...corner(b, way + lean));
  sink.lineTo(...corner(a, way + lean));
  sink.closePath();
}
