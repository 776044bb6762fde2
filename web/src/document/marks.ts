// What a hand leaves on a layer: strokes and fills as vectors, in pixels of the picture.

/** points: x, y, pressure by turns, as the pointer gave them. */
export interface Stroke {
  readonly kind: "stroke";
  readonly id: string;
  readonly points: readonly number[];
  /** Diameter at half pressure. */
  readonly size: number;
  readonly color: string;
  readonly opacity: number;
  /** Takes away what is there. */
  readonly erase: boolean;
}

/** An area found once, so that it stays the same whatever comes to lie below it. */
export interface Fill {
  readonly kind: "fill";
  readonly id: string;
  /** y, first x, x behind the last, by turns. */
  readonly spans: readonly number[];
  readonly color: string;
  readonly opacity: number;
}

export type Mark = Stroke | Fill;

export interface Box {
  left: number;
  top: number;
  right: number;
  bottom: number;
}

/** Widest radius of a stroke, for a size of 1. */
export const WIDEST = 0.8;

/** Where a mark may have touched pixels. */
export function boxOf(mark: Mark): Box {
  const box: Box = { left: Infinity, top: Infinity, right: -Infinity, bottom: -Infinity };
  if (mark.kind === "fill") {
    for (let i = 0; i + 2 < mark.spans.length; i += 3) {
      grow(box, mark.spans[i + 1] ?? 0, mark.spans[i] ?? 0, 0);
      grow(box, mark.spans[i + 2] ?? 0, (mark.spans[i] ?? 0) + 1, 0);
    }
    return box;
  }
  const reach = Math.max(mark.size * WIDEST, 1) + 2;
  for (let i = 0; i + 2 < mark.points.length; i += 3) {
    grow(box, mark.points[i] ?? 0, mark.points[i + 1] ?? 0, reach);
  }
  return box;
}

function grow(box: Box, x: number, y: number, reach: number): void {
  box.left = Math.min(box.left, Math.floor(x - reach));
  box.top = Math.min(box.top, Math.floor(y - reach));
  box.right = Math.max(box.right, Math.ceil(x + reach));
  box.bottom = Math.max(box.bottom, Math.ceil(y + reach));
}
