// The pixels of a painting: its picture and its layers of marks, of one size, and what they give together.
import type { Content, LayerKind, Shown } from "../document/content";
import { written } from "../images/decode";
import { flood } from "./flood";
import { Raster, surface } from "./raster";
import { format } from "./colour";

const PAPER = "#ffffff";
/** How a mask is laid on; which colour that is shows the style sheet's filter or nothing. */
export const MASK = "#e5484d";

export class Easel {
  readonly picture: HTMLCanvasElement;
  readonly strokes: Raster;
  readonly mask: Raster;
  readonly #picture: CanvasRenderingContext2D;
  #drawn: string | null = null;

  constructor(width: number, height: number) {
    [this.picture, this.#picture] = surface(width, height);
    this.strokes = new Raster(width, height);
    this.mask = new Raster(width, height);
  }

  /** Hash of the picture that is drawn. */
  get drawn(): string | null {
    return this.#drawn;
  }

  /** bitmap: of the content's picture, where it has one. */
  show(content: Content, bitmap: ImageBitmap | null): void {
    const { width, height } = content;
    const sized = this.picture.width !== width || this.picture.height !== height;
    if (sized) Object.assign(this.picture, { width, height });
    if (sized || this.#drawn !== content.picture) {
      this.#picture.clearRect(0, 0, width, height);
      if (bitmap) this.#picture.drawImage(bitmap, 0, 0, width, height);
      this.#drawn = content.picture;
    }
    this.strokes.show(content.strokes, width, height);
    this.mask.show(content.mask, width, height);
  }

  /** Paper, picture and strokes, as they are seen. */
  composed(shown: Record<LayerKind, Shown>, reads = false): [HTMLCanvasElement, CanvasRenderingContext2D] {
    const { width, height } = this.picture;
    const [canvas, context] = surface(width, height, { alpha: false, willReadFrequently: reads });
    context.fillStyle = PAPER;
    context.fillRect(0, 0, width, height);
    const layers = [[shown.picture, this.picture], [shown.strokes, this.strokes.shown]] as const;
    for (const [layer, pixels] of layers) {
      if (!layer.visible) continue;
      context.globalAlpha = layer.opacity;
      context.drawImage(pixels, 0, 0);
    }
    return [canvas, context];
  }

  guide(shown: Record<LayerKind, Shown>): Promise<Blob> {
    return written(this.composed(shown)[0]);
  }

  /** White where a pixel is masked for the greater part, black elsewhere; none: nothing is. */
  async masked(): Promise<Blob | null> {
    const { width, height } = this.picture;
    const [canvas, context] = surface(width, height, { alpha: false, willReadFrequently: true });
    const covered = this.covered();
    if (!covered.includes(1)) return null;
    const pixels = context.createImageData(width, height);
    const white = new Uint32Array(pixels.data.buffer);
    covered.forEach((inside, i) => (white[i] = inside ? 0xffffffff : 0xff000000));
    context.putImageData(pixels, 0, 0);
    return written(canvas);
  }

  /** 1 for each masked pixel. */
  covered(): Uint8Array {
    const { width, height } = this.picture;
    const [, context] = surface(width, height, { willReadFrequently: true });
    context.drawImage(this.mask.shown, 0, 0);
    const { data } = context.getImageData(0, 0, width, height);
    const covered = new Uint8Array(width * height);
    for (let i = 0; i < covered.length; i++) covered[i] = (data[i * 4 + 3] ?? 0) > 127 ? 1 : 0;
    return covered;
  }

  /** Colour at a point that is seen there; none outside. */
  colour(shown: Record<LayerKind, Shown>, x: number, y: number): string | null {
    const { width, height } = this.picture;
    if (x < 0 || y < 0 || x >= width || y >= height) return null;
    const [, context] = this.composed(shown, true);
    const [red = 0, green = 0, blue = 0] = context.getImageData(Math.floor(x), Math.floor(y), 1, 1).data;
    return format([red, green, blue]);
  }

  /** Spans around a point of like colours; onto a mask, up to what is masked already. */
  area(shown: Record<LayerKind, Shown>, x: number, y: number, tolerance: number, onMask: boolean): number[] {
    const { width, height } = this.picture;
    const { data } = this.composed(shown, true)[1].getImageData(0, 0, width, height);
    const covered = onMask ? this.covered() : null;
    const ground = covered
      ? { width, height, data, blocked: (pixel: number) => covered[pixel] === 1 }
      : { width, height, data };
    return flood(ground, Math.floor(x), Math.floor(y), tolerance);
  }
}
