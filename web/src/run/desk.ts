// What a run needs of the document that is open, so that it can be tried without a canvas.
import type { Settings } from "./settings";

export interface Desk {
  readonly id: string;
  readonly size: { width: number; height: number };
  settings: Settings;
  /** Jobs whose pictures wait to be accepted or discarded. */
  runs: string[];
  parents: string[];
  /** Whether a mask is painted, and seen. */
  readonly masked: boolean;
  /** Picture and strokes as one, of the picture's own size. */
  guide(): Promise<Blob>;
  /** The picture alone; none: the canvas is empty. */
  picture(): Promise<Blob | null>;
  /** White where it may change; none: nothing is masked. */
  mask(): Promise<Blob | null>;
  reference(): Promise<Blob | null>;
  /** The proposal becomes the picture, as one step that can be undone. */
  accept(picture: Blob, from: { job: string; sha256: string }): Promise<void>;
}
