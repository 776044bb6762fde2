// What a painting shows: two pictures by their hashes, strokes and mask as marks. A value, never changed
// in place, so that a step of the history can hold it.
import type { Mark } from "./marks";

export const SMALLEST = 32; // pixels a side
export const LARGEST = 1024;

export type MarksLayer = "strokes" | "mask";
export type ImageLayer = "picture" | "reference";
export type LayerKind = ImageLayer | MarksLayer;
export const LAYERS: readonly LayerKind[] = ["mask", "strokes", "picture", "reference"];

export interface Content {
  readonly width: number;
  readonly height: number;
  /** SHA-256 of the picture, of this size. */
  readonly picture: string | null;
  /** SHA-256 of a picture of any size. */
  readonly reference: string | null;
  readonly strokes: readonly Mark[];
  readonly mask: readonly Mark[];
  /** Of pictures that this one goes on from, for its lineage. */
  readonly parents: readonly string[];
}

/** How a layer is shown. */
export interface Shown {
  visible: boolean;
  opacity: number;
}

export function blankContent(width: number, height: number): Content {
  return { width, height, picture: null, reference: null, strokes: [], mask: [], parents: [] };
}

export function isBlank(content: Content): boolean {
  const { picture, reference, strokes, mask } = content;
  return picture === null && reference === null && !strokes.length && !mask.length;
}

export function isSide(value: number): boolean {
  return Number.isInteger(value) && value >= SMALLEST && value <= LARGEST;
}

/** A size of the same shape whose sides a painting can have, or none: it is too long and thin. */
export function fitted(width: number, height: number): { width: number; height: number } | null {
  const shrink = Math.min(1, LARGEST / Math.max(width, height));
  const size = { width: Math.round(width * shrink), height: Math.round(height * shrink) };
  return isSide(size.width) && isSide(size.height) ? size : null;
}

export function freshShown(): Record<LayerKind, Shown> {
  const whole = () => ({ visible: true, opacity: 1 });
  return { picture: whole(), strokes: whole(), mask: whole(), reference: whole() };
}

/** Hashes of pictures that a content names. */
export function imagesOf(content: Content): string[] {
  return [content.picture, content.reference].filter((hash) => hash !== null);
}
