// From points to marks: a stroke while it is painted, a line, a fill, a colour taken.
import { newId } from "../api/hash";
import type { MarksLayer } from "../document/content";
import type { Stroke } from "../document/marks";
import type { OpenDocument } from "../document/open.svelte";
import { MASK } from "./easel";
import type { Tool } from "./tools.svelte";
import type { Point } from "./view";

/** What a stroke is begun with. */
export interface Hand {
  tool: Tool;
  layer: MarksLayer;
  size: number;
  colour: string;
  opacity: number;
  tolerance: number;
}

const NEAR = 0.2; // pixels of the picture; nearer points change nothing that is seen

export class Painter {
  #stroke: (Stroke & { points: number[] }) | null = null;
  #layer: MarksLayer = "strokes";
  #line = false;
  #fill: { hand: Hand; point: Point } | null = null;

  constructor(private readonly document: OpenDocument) {}

  get painting(): boolean {
    return this.#stroke !== null || this.#fill !== null;
  }

  begin(hand: Hand, point: Point, pressure: number, erase: boolean): void {
    this.#layer = hand.layer;
    if (hand.tool === "fill" && !erase) {
      this.#fill = { hand, point }; // when the pointer is lifted: a second finger may still come
      return;
    }
    const takes = erase || hand.tool === "eraser";
    this.#line = hand.tool === "line";
    this.#stroke = {
      kind: "stroke", id: newId(), points: [round(point.x), round(point.y), round(pressure)], size: hand.size,
      ...painted(hand), ...(takes ? { opacity: 1 } : {}), erase: takes,
    };
    this.#raster.extend(this.#stroke);
  }

  extend(points: readonly (Point & { pressure: number })[]): void {
    const stroke = this.#stroke;
    if (!stroke) return;
    if (this.#line) {
      const last = points.at(-1);
      if (!last) return;
      stroke.points = [...stroke.points.slice(0, 3), round(last.x), round(last.y), stroke.points[2] ?? 0.5];
    } else {
      const count = stroke.points.length;
      for (const { x, y, pressure } of points) {
        const [lastX = 0, lastY = 0] = stroke.points.slice(-3);
        if (Math.hypot(x - lastX, y - lastY) >= NEAR) stroke.points.push(round(x), round(y), round(pressure));
      }
      if (stroke.points.length === count) return;
    }
    this.#raster.extend(stroke);
  }

  /** What was painted is laid on its layer. */
  end(): void {
    if (this.#fill) this.#flood(this.#fill.hand, this.#fill.point);
    if (this.#stroke) this.document.lay(this.#layer, this.#stroke);
    this.#fill = this.#stroke = null;
  }

  /** As if it had not been begun. */
  drop(): void {
    if (this.#stroke) this.#raster.restore();
    this.#fill = this.#stroke = null;
  }

  #flood(hand: Hand, { x, y }: Point): void {
    const onMask = hand.layer === "mask";
    const { easel, shown } = this.document;
    const spans = easel.area(shown, x, y, hand.tolerance, onMask);
    if (spans.length) this.document.lay(hand.layer, { kind: "fill", id: newId(), spans, ...painted(hand) });
  }

  get #raster() {
    return this.document.easel[this.#layer];
  }
}

/** A mask is whole or not at all. */
function painted(hand: Hand): { color: string; opacity: number } {
  return hand.layer === "mask" ? { color: MASK, opacity: 1 } : { color: hand.colour, opacity: hand.opacity };
}

function round(value: number): number {
  return Math.round(value * 100) / 100;
}
