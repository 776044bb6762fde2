// How the picture lies on the screen: turned, scaled, then moved. Pixels of the screen are CSS pixels.

export interface Point {
  x: number;
  y: number;
}

/** A point p of the picture is on the screen at zoom · R(angle) · p + (x, y). */
export interface View {
  readonly x: number;
  readonly y: number;
  readonly zoom: number;
  /** Radians, clockwise. */
  readonly angle: number;
}

export interface Size {
  width: number;
  height: number;
}

export const NEAREST = 64;
export const FARTHEST = 1 / 16;
const UPRIGHT = Math.PI / 2;
const SNAP = (4 * Math.PI) / 180;

export function toScreen(view: View, point: Point): Point {
  const [cos, sin] = [Math.cos(view.angle) * view.zoom, Math.sin(view.angle) * view.zoom];
  return { x: view.x + cos * point.x - sin * point.y, y: view.y + sin * point.x + cos * point.y };
}

export function toPicture(view: View, point: Point): Point {
  const [cos, sin] = [Math.cos(view.angle) / view.zoom, Math.sin(view.angle) / view.zoom];
  const [x, y] = [point.x - view.x, point.y - view.y];
  return { x: cos * x + sin * y, y: cos * y - sin * x };
}

/** As large as it fits, in the middle; a small picture is enlarged by whole numbers where that is near. */
export function fit(picture: Size, screen: Size, margin: number, angle = 0): View {
  const [cos, sin] = [Math.abs(Math.cos(angle)), Math.abs(Math.sin(angle))];
  const width = picture.width * cos + picture.height * sin;
  const height = picture.width * sin + picture.height * cos;
  const room = { width: Math.max(screen.width - 2 * margin, 1), height: Math.max(screen.height - 2 * margin, 1) };
  const most = bounded(Math.min(room.width / width, room.height / height));
  return centred(picture, screen, { x: 0, y: 0, zoom: most >= 3 ? Math.floor(most) : most, angle });
}

/** The picture's middle in the screen's. */
export function centred(picture: Size, screen: Size, view: View): View {
  return pinned(view, { x: picture.width / 2, y: picture.height / 2 }, { x: screen.width / 2, y: screen.height / 2 });
}

/** Moved such that a point of the picture is at one of the screen. */
function pinned(view: View, point: Point, at: Point): View {
  const now = toScreen(view, point);
  return { ...view, x: view.x + at.x - now.x, y: view.y + at.y - now.y };
}

export function panned(view: View, dx: number, dy: number): View {
  return { ...view, x: view.x + dx, y: view.y + dy };
}

export function zoomed(view: View, factor: number, at: Point): View {
  const point = toPicture(view, at);
  return pinned({ ...view, zoom: bounded(view.zoom * factor) }, point, at);
}

export function turned(view: View, by: number, at: Point): View {
  const point = toPicture(view, at);
  return pinned({ ...view, angle: wrapped(view.angle + by) }, point, at);
}

/** What two fingers do that go from one pair of places to another: both keep what is below them. */
export function pinched(view: View, from: readonly [Point, Point], to: readonly [Point, Point]): View {
  const middle = { x: (from[0].x + from[1].x) / 2, y: (from[0].y + from[1].y) / 2 };
  const point = toPicture(view, middle);
  const [before, now] = [vector(from), vector(to)];
  const [length, length2] = [Math.hypot(before.x, before.y), Math.hypot(now.x, now.y)];
  const factor = length > 1 && length2 > 1 ? length2 / length : 1;
  const by = Math.atan2(now.y, now.x) - Math.atan2(before.y, before.x);
  const next = { ...view, zoom: bounded(view.zoom * factor), angle: wrapped(view.angle + by) };
  return pinned(next, point, { x: (to[0].x + to[1].x) / 2, y: (to[0].y + to[1].y) / 2 });
}

/** Upright, where it nearly is. */
export function snapped(view: View, at: Point): View {
  const nearest = Math.round(view.angle / UPRIGHT) * UPRIGHT;
  const off = nearest - view.angle;
  return off !== 0 && Math.abs(off) < SNAP ? turned(view, off, at) : view;
}

/** On the screen at least in part, so that it cannot be lost. */
export function held(view: View, picture: Size, screen: Size): View {
  const middle = toScreen(view, { x: picture.width / 2, y: picture.height / 2 });
  const reach = (Math.hypot(picture.width, picture.height) / 2) * view.zoom * 0.7;
  const x = Math.min(Math.max(middle.x, -reach + 40), screen.width + reach - 40);
  const y = Math.min(Math.max(middle.y, -reach + 40), screen.height + reach - 40);
  return panned(view, x - middle.x, y - middle.y);
}

export function matrix(view: View): string {
  const [cos, sin] = [Math.cos(view.angle) * view.zoom, Math.sin(view.angle) * view.zoom];
  return `matrix(${cos}, ${sin}, ${-sin}, ${cos}, ${view.x}, ${view.y})`;
}

function vector(pair: readonly [Point, Point]): Point {
  return { x: pair[1].x - pair[0].x, y: pair[1].y - pair[0].y };
}

function bounded(zoom: number): number {
  return Math.min(Math.max(zoom, FARTHEST), NEAREST);
}

function wrapped(angle: number): number {
  return Math.atan2(Math.sin(angle), Math.cos(angle));
}
