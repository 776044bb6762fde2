// Saving one painting: one write at a time, the newest state last. A write that fails is tried again with
// the next change; until then the painting is in memory alone, and that is said once. A thumbnail is drawn
// when the strokes are kept, so that a page that is closed meanwhile has lost none.
import { newId } from "../api/hash";
import { imagesOf } from "./content";
import { contentsOf, marksOf } from "./history";
import type { Painting } from "./painting";
import { ChangedElsewhere, type Storage } from "./storage";

export interface Saved {
  painting(): Painting;
  pictures: ReadonlyMap<string, Blob>;
  thumbnail(): Promise<Blob>;
  kept(kept: boolean): void;
  /** Another tab has changed it too: it goes on as another painting. */
  copied(id: string, name: string): void;
  failed(full: boolean): void;
}

const THUMBNAILS = 3000; // milliseconds between two

export class Saver {
  readonly #known = new Set<string>();
  #waits = false;
  #running: Promise<void> | null = null;
  #said = false;
  #pictured = 0;
  #stale = false;

  constructor(readonly storage: Storage, private revision: number, private readonly saved: Saved) {
    if (revision > 0) this.#remember(saved.painting(), saved.pictures);
  }

  save(): void {
    this.#waits = true;
    this.saved.kept(false);
    this.#running ??= this.#run().finally(() => (this.#running = null));
  }

  /** Its thumbnail is of now; a painting that was not changed is not written. */
  async picture(): Promise<void> {
    await this.finish();
    if (!this.#stale) return;
    this.#pictured = 0;
    this.save();
    await this.finish();
  }

  async finish(): Promise<void> {
    while (this.#running) await this.#running;
  }

  async #run(): Promise<void> {
    while (this.#waits) {
      this.#waits = false;
      try {
        await this.#write(null);
        if (!this.#waits && Date.now() - this.#pictured > THUMBNAILS) {
          await this.#write(await this.saved.thumbnail());
          this.#pictured = Date.now();
        }
        this.#said = false;
        if (!this.#waits) this.saved.kept(true);
      } catch (error) {
        if (error instanceof ChangedElsewhere) {
          this.#copy();
          continue;
        }
        const full = error instanceof DOMException && error.name === "QuotaExceededError";
        if (!this.#said) this.saved.failed(full);
        this.#said = true;
      }
    }
  }

  async #write(thumbnail: Blob | null): Promise<void> {
    const painting = this.saved.painting();
    const named = new Set(contentsOf(painting.history).flatMap(imagesOf));
    // as they are now: one that comes while this is written is the next write's
    const pictures = new Map([...this.saved.pictures].filter(([hash]) => named.has(hash)));
    this.revision = await this.storage.write(painting, this.revision, pictures, this.#known, thumbnail);
    this.#stale = thumbnail === null;
    this.#remember(painting, pictures);
  }

  #copy(): void {
    this.#known.clear();
    this.revision = 0;
    this.saved.copied(newId(), `${this.saved.painting().name} (2)`);
    this.#waits = true;
  }

  #remember(painting: Painting, pictures: ReadonlyMap<string, Blob>): void {
    this.#known.clear();
    for (const id of marksOf(painting.history).keys()) this.#known.add(id);
    for (const hash of pictures.keys()) this.#known.add(hash);
  }
}
