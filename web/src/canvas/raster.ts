// The pixels of a layer of marks, at the picture's own size. Whole marks are settled; a stroke that is
// being painted is wet, by itself, until it is ended or dropped; shown are both. Kept states on the way
// make undo quick however many marks there are.
import { boxOf, type Box, type Mark, type Stroke } from "../document/marks";
import { discs, trace } from "./outline";

type Surface = CanvasRenderingContext2D;

const EVERY = 24; // marks between two kept states
const KEPT = 6; // states; 4 MB each at 1024 × 1024

interface Kept {
  count: number;
  last: Mark | undefined;
  pixels: HTMLCanvasElement;
}

export class Raster {
  readonly shown: HTMLCanvasElement;
  readonly #settled: HTMLCanvasElement;
  readonly #wet: HTMLCanvasElement;
  readonly #view: Surface;
  readonly #base: Surface;
  readonly #fresh: Surface;
  #marks: readonly Mark[] = [];
  #kept: Kept[] = [];
  #stroke: { drawn: number; box: Box } | null = null;

  constructor(width: number, height: number) {
    [this.shown, this.#view] = surface(width, height);
    [this.#settled, this.#base] = surface(width, height);
    [this.#wet, this.#fresh] = surface(width, height);
  }

  /** Show these marks and no others; only what differs is drawn. */
  show(marks: readonly Mark[], width = this.shown.width, height = this.shown.height): void {
    this.restore();
    const before = this.#marks;
    this.#marks = marks;
    if (width !== this.shown.width || height !== this.shown.height) {
      for (const canvas of [this.shown, this.#settled, this.#wet]) Object.assign(canvas, { width, height });
      this.#kept = [];
    } else if (marks.length >= before.length && before.every((mark, i) => mark === marks[i])) {
      for (let i = before.length; i < marks.length; i++) this.#add(marks, i);
      for (const mark of marks.slice(before.length)) this.#refresh(boxOf(mark));
      return;
    }
    this.#rebuild(marks);
    this.#refresh({ left: 0, top: 0, right: width, bottom: height });
  }

  /** Draw what is new of a stroke that is not ended. */
  extend(stroke: Stroke): void {
    const shape = discs(stroke, false);
    // While there are two points, perfect-freehand puts others between them: begun anew with the third.
    if (this.#stroke && stroke.points.length <= 9) this.restore();
    const from = this.#stroke?.drawn ?? 0;
    const box = boxOf({ ...stroke, points: shape.slice(Math.max(from - 1, 0)).flatMap(({ x, y }) => [x, y, 0]) });
    this.#stroke = { drawn: shape.length, box: this.#stroke ? joined(this.#stroke.box, box) : box };
    if (from >= shape.length) return;
    this.#fresh.fillStyle = stroke.color;
    this.#fresh.beginPath();
    trace(this.#fresh, shape, from);
    this.#fresh.fill();
    this.#refresh(box, stroke);
  }

  /** As before the stroke that was not ended. */
  restore(): void {
    if (!this.#stroke) return;
    const { box } = this.#stroke;
    this.#stroke = null;
    this.#fresh.clearRect(box.left, box.top, box.right - box.left, box.bottom - box.top);
    this.#refresh(box);
  }

  #add(marks: readonly Mark[], index: number): void {
    const mark = marks[index];
    if (!mark) return;
    drawMark(this.#base, mark);
    if ((index + 1) % EVERY === 0) this.#keep(index + 1, mark);
  }

  #keep(count: number, last: Mark): void {
    const [pixels, context] = surface(this.#settled.width, this.#settled.height);
    context.drawImage(this.#settled, 0, 0);
    this.#kept = [...this.#kept.filter((kept) => kept.count !== count), { count, last, pixels }].slice(-KEPT);
  }

  #rebuild(marks: readonly Mark[]): void {
    this.#kept = this.#kept.filter((kept) => marks[kept.count - 1] === kept.last);
    const from = this.#kept.at(-1);
    this.#base.clearRect(0, 0, this.#settled.width, this.#settled.height);
    if (from) this.#base.drawImage(from.pixels, 0, 0);
    for (let i = from?.count ?? 0; i < marks.length; i++) this.#add(marks, i);
  }

  /** Within a box, what is settled is shown, and a stroke that is not ended upon it. */
  #refresh(box: Box, stroke?: Stroke): void {
    const { width, height } = this.shown;
    const [left, top] = [Math.max(box.left, 0), Math.max(box.top, 0)];
    const [across, down] = [Math.min(box.right, width) - left, Math.min(box.bottom, height) - top];
    if (across <= 0 || down <= 0) return;
    this.#view.clearRect(left, top, across, down);
    this.#view.drawImage(this.#settled, left, top, across, down, left, top, across, down);
    if (!stroke) return;
    prepared(this.#view, stroke, () => {
      this.#view.drawImage(this.#wet, left, top, across, down, left, top, across, down);
    });
  }
}

function joined(a: Box, b: Box): Box {
  return {
    left: Math.min(a.left, b.left), top: Math.min(a.top, b.top),
    right: Math.max(a.right, b.right), bottom: Math.max(a.bottom, b.bottom),
  };
}

/** Draw a mark, in the picture's pixels as the context has them. */
export function drawMark(context: Surface, mark: Mark): void {
  if (mark.kind === "stroke") {
    prepared(context, mark, () => {
      context.fillStyle = mark.color;
      context.beginPath();
      trace(context, discs(mark, true));
      context.fill();
    });
    return;
  }
  context.globalAlpha = mark.opacity;
  context.fillStyle = mark.color;
  for (let i = 0; i + 2 < mark.spans.length; i += 3) {
    const [y = 0, first = 0, end = 0] = mark.spans.slice(i, i + 3);
    context.fillRect(first, y, end - first, 1);
  }
  context.globalAlpha = 1;
}

/** Draw as a stroke's opacity and its taking away say. */
function prepared(context: Surface, stroke: Stroke, draw: () => void): void {
  context.globalCompositeOperation = stroke.erase ? "destination-out" : "source-over";
  context.globalAlpha = stroke.opacity;
  draw();
  context.globalAlpha = 1;
  context.globalCompositeOperation = "source-over";
}

export function surface(width: number, height: number, options?: CanvasRenderingContext2DSettings): [HTMLCanvasElement, Surface] {
  const canvas = document.createElement("canvas");
  canvas.width = width;
  canvas.height = height;
  const context = canvas.getContext("2d", options);
  if (!context) throw new Error("the browser gives no canvas to draw on");
  return [canvas, context];
}
