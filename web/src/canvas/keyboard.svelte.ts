// Painting by keys: arrows move a point over the picture, then Enter puts the brush down and
// lifts it.
import type { OpenDocument } from "../document/open.svelte";
import { tools } from "./tools.svelte";
import type { Point } from "./view";
import type { Viewport } from "./viewport.svelte";

interface Brush {
  begin(point: Point, pressure: number, erase: boolean): void;
  extend(points: (Point & { pressure: number })[]): void;
  end(): void;
  drop(): void;
}

const WAYS: Record<string, Point> = {
  ArrowLeft: { x: -1, y: 0 }, ArrowRight: { x: 1, y: 0 }, ArrowUp: { x: 0, y: -1 }, ArrowDown: { x: 0, y: 1 },
};
const HALF = 0.5; // pressure

export class Keyboard {
  at: Point | null = $state.raw(null);
  down = $state(false);

  constructor(
    private readonly document: OpenDocument, private readonly viewport: Viewport, private readonly brush: Brush,
  ) {}

  press(event: KeyboardEvent): void {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target !== event.currentTarget) return;
    const way = WAYS[event.key];
    if (way) this.#move(way, event.shiftKey);
    else if (event.key === "Enter" && this.at) this.#toggle();
    else if (event.key === "Escape" && this.at) this.#drop();
    else return;
    event.preventDefault();
    event.stopPropagation();
  }

  /** A pointer takes over. */
  leave(): void {
    if (this.down) this.#toggle();
    this.at = null;
  }

  #move(way: Point, fine: boolean): void {
    const { width, height } = this.document.size;
    const step = fine ? 1 : Math.max(1, Math.round(Math.max(width, height) / 32));
    const from = this.at ?? { x: width / 2, y: height / 2 };
    const inside = (value: number, most: number) => Math.min(Math.max(value, 0), most);
    this.at = { x: inside(from.x + way.x * step, width), y: inside(from.y + way.y * step, height) };
    if (this.down) this.brush.extend([{ ...this.at, pressure: HALF }]);
  }

  #toggle(): void {
    if (!this.at) return;
    if (this.down) {
      this.down = false;
      this.brush.end();
    } else if (tools.tool === "pipette") {
      tools.colour = this.document.easel.colour(this.document.shown, this.at.x, this.at.y) ?? tools.colour;
    } else if (tools.tool === "hand") {
      this.viewport.fit();
    } else {
      this.brush.begin(this.at, HALF, false);
      this.down = tools.tool !== "fill";
    }
  }

  #drop(): void {
    if (this.down) this.brush.drop();
    this.down = false;
    this.at = null;
  }
}
