// Where the picture lies on this screen, and its buttons and keys.
import { centred, fit, held, panned, pinched, snapped, turned, zoomed, type Point, type Size, type View } from "./view";

const MARGIN = 28; // pixels around a picture that is fitted
const NARROW = 10;

export class Viewport {
  view: View = $state.raw({ x: 0, y: 0, zoom: 1, angle: 0 });
  screen: Size = $state.raw({ width: 0, height: 0 });
  #picture: Size = { width: 1, height: 1 };
  #touched = false;

  get middle(): Point {
    return { x: this.screen.width / 2, y: this.screen.height / 2 };
  }

  /** Another picture, or a size of it. */
  shows(picture: Size): void {
    this.#picture = picture;
    this.fit();
  }

  /** The stage has another size: what was in its middle stays there. */
  resized(screen: Size): void {
    const before = this.screen;
    this.screen = screen;
    if (!this.#touched || before.width === 0) this.fit(this.view.angle);
    else this.#become(panned(this.view, (screen.width - before.width) / 2, (screen.height - before.height) / 2));
  }

  fit(angle = 0): void {
    const margin = this.screen.width < 600 ? NARROW : MARGIN;
    this.view = fit(this.#picture, this.screen, margin, angle);
    this.#touched = false;
  }

  /** A pixel of the picture is one of the screen. */
  whole(): void {
    const zoom = 1 / (globalThis.devicePixelRatio || 1);
    this.#become(centred(this.#picture, this.screen, { ...this.view, zoom }));
  }

  pan(dx: number, dy: number): void {
    this.#become(panned(this.view, dx, dy));
  }

  zoom(factor: number, at: Point = this.middle): void {
    this.#become(zoomed(this.view, factor, at));
  }

  turn(degrees: number): void {
    this.#become(snapped(turned(this.view, (degrees * Math.PI) / 180, this.middle), this.middle));
  }

  pinch(from: readonly [Point, Point], to: readonly [Point, Point]): void {
    this.#become(pinched(this.view, from, to));
  }

  /** Fingers are lifted. */
  rest(at: Point): void {
    this.#become(snapped(this.view, at));
  }

  #become(view: View): void {
    this.#touched = true;
    this.view = held(view, this.#picture, this.screen);
  }
}
