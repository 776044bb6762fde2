// The tool in hand: what it does, on which layer, how large, of what colour. Kept from one visit to the next.
import type { MarksLayer } from "../document/content";
import { keep, kept } from "../shell/kept";
import { HEX } from "./colour";

export const TOOLS = ["brush", "line", "eraser", "fill", "pipette", "hand"] as const;
export type Tool = (typeof TOOLS)[number];

export const THINNEST = 1; // pixels of the picture
export const THICKEST = 512;
const RECENT = 6;

class Tools {
  #tool = $state<Tool>("brush");
  #before: Tool = "brush";
  layer = $state<MarksLayer>("strokes");
  #size = $state(number("brush.size", 12, THINNEST, THICKEST));
  #colour = $state(colourKept());
  #opacity = $state(number("brush.opacity", 1, 0.05, 1));
  /** Of a fill: largest difference of a channel, 0 to 255. */
  #tolerance = $state(number("fill.tolerance", 32, 0, 255));
  /** Colours painted with, the newest first. */
  recent = $state<string[]>([]);

  get tool(): Tool {
    return this.#tool;
  }

  set tool(tool: Tool) {
    if (tool === this.#tool) return;
    this.#before = this.#tool;
    this.#tool = tool;
  }

  /** The tool before, such as after a colour was taken. */
  back(): void {
    this.tool = this.#before;
  }

  get size(): number {
    return this.#size;
  }

  set size(size: number) {
    this.#size = Math.round(Math.min(Math.max(size, THINNEST), THICKEST) * 10) / 10;
    keep("brush.size", String(this.#size));
  }

  /** Larger or smaller, by a step that suits the size. */
  step(direction: 1 | -1): void {
    const stepped = this.#size * (direction > 0 ? 1.2 : 1 / 1.2);
    const whole = direction > 0 ? Math.max(Math.round(stepped), this.#size + 1) : Math.min(Math.round(stepped), this.#size - 1);
    this.size = whole;
  }

  get colour(): string {
    return this.#colour;
  }

  set colour(colour: string) {
    this.#colour = colour;
    keep("brush.colour", colour);
  }

  get opacity(): number {
    return this.#opacity;
  }

  set opacity(opacity: number) {
    this.#opacity = Math.min(Math.max(opacity, 0.05), 1);
    keep("brush.opacity", String(this.#opacity));
  }

  get tolerance(): number {
    return this.#tolerance;
  }

  set tolerance(tolerance: number) {
    this.#tolerance = Math.round(Math.min(Math.max(tolerance, 0), 255));
    keep("fill.tolerance", String(this.#tolerance));
  }

  /** A colour was painted with. */
  used(colour: string): void {
    this.recent = [colour, ...this.recent.filter((other) => other !== colour)].slice(0, RECENT);
  }
}

function number(name: string, otherwise: number, least: number, most: number): number {
  const value = Number(kept(name) ?? Number.NaN);
  return value >= least && value <= most ? value : otherwise;
}

function colourKept(): string {
  const colour = kept("brush.colour") ?? "";
  return HEX.test(colour) ? colour : "#b5392f";
}

export const tools = new Tools();
