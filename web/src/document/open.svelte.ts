// The painting that is open: what it shows as pixels, changes as steps that can be undone, and saving
// after each of them.
import { sha256 } from "../api/hash";
import { Easel } from "../canvas/easel";
import { t } from "../i18n/index.svelte";
import { decode, written } from "../images/decode";
import { notify } from "../shell/notices.svelte";
import type { Desk } from "../run/desk";
import { imagesOf, isBlank, isSide, type Content, type LayerKind, type MarksLayer, type Shown } from "./content";
import { contentsOf, marked, redone, replaced, undone, type History } from "./history";
import { isOpen } from "./last";
import type { Mark } from "./marks";
import type { Painting } from "./painting";
import { Saver } from "./saver";
import type { Opened, Storage } from "./storage";

const THUMBNAIL = 192; // pixels of the longer side
const DECODED = 4; // pictures whose pixels are at hand; others of the history are decoded when they come back
const SETTLE = 400; // milliseconds after the last change of a setting

export class OpenDocument implements Desk {
  readonly easel: Easel;
  readonly pictures: Map<string, Blob>;
  id: string;
  #name: string;
  #history: History;
  shown: Record<LayerKind, Shown>;
  settings: Painting["settings"];
  runs: string[];
  /** Whether all is kept in this browser. */
  kept = $state(true);
  /** Grows with each change of the pixels. */
  drawn = $state(0);
  readonly #bitmaps = new Map<string, ImageBitmap>();
  readonly #saver: Saver;
  #waiting: ReturnType<typeof setTimeout> | undefined;
  readonly #stop: () => boolean;

  constructor({ painting, revision, pictures }: Opened, storage: Storage) {
    this.id = $state(painting.id);
    this.#name = $state(painting.name);
    this.#history = $state.raw(painting.history);
    this.shown = $state(painting.shown);
    this.settings = $state(painting.settings);
    this.runs = $state(painting.runs);
    this.pictures = pictures;
    this.easel = new Easel(this.content.width, this.content.height);
    this.#saver = new Saver(storage, revision, {
      painting: () => this.painting(), pictures, thumbnail: () => this.thumbnail(),
      kept: (kept) => (this.kept = kept),
      copied: (id, name) => {
        this.id = id;
        this.#name = name;
        isOpen(id);
        notify(t("document.copied", { name }), "info");
      },
      failed: (full) => notify(full ? t("document.full") : t("document.unkept"), "bad"),
    });
    this.#stop = this.#watch();
  }

  /** Ready to be shown. */
  static async open(opened: Opened, storage: Storage): Promise<OpenDocument> {
    const document = new OpenDocument(opened, storage);
    await document.#load();
    return document;
  }

  get content(): Content {
    return this.#history.content;
  }

  get size(): { width: number; height: number } {
    return { width: this.content.width, height: this.content.height };
  }

  get parents(): string[] {
    return [...this.content.parents];
  }

  get masked(): boolean {
    return this.content.mask.length > 0 && this.shown.mask.visible;
  }

  get canUndo(): boolean {
    return this.#history.past.length > 0;
  }

  get canRedo(): boolean {
    return this.#history.future.length > 0;
  }

  get blank(): boolean {
    return isBlank(this.content);
  }

  get name(): string {
    return this.#name;
  }

  set name(value: string) {
    this.#name = value;
    this.#saver.save();
  }

  lay(layer: MarksLayer, mark: Mark): void {
    this.#become(marked(this.#history, layer, mark));
  }

  undo(): void {
    this.#become(undone(this.#history));
  }

  redo(): void {
    this.#become(redone(this.#history));
  }

  /** Take all marks, or the picture, off a layer. */
  clear(layer: LayerKind): void {
    if (layer === "strokes" || layer === "mask") {
      if (this.content[layer].length) this.#become(replaced(this.#history, { [layer]: [] }));
    } else if (this.content[layer] !== null) {
      const parents = layer === "picture" ? { parents: [] } : {};
      this.#become(replaced(this.#history, { [layer]: null, ...parents }));
    }
  }

  /** A file as the picture, which gives a blank painting its size. Answers what was changed of it. */
  async place(file: Blob, parents: readonly string[] = []): Promise<string[]> {
    const { blob, width, height, notes } = await decode(file, this.blank ? undefined : this.size);
    const picture = await this.#add(blob);
    this.#become(replaced(this.#history, { picture, width, height, parents }));
    return notes;
  }

  async refer(file: Blob): Promise<string[]> {
    const { blob, notes } = await decode(file);
    const reference = await this.#add(blob);
    this.shown.reference.visible = true;
    this.#become(replaced(this.#history, { reference }));
    return notes;
  }

  /** The proposal becomes the picture, and the strokes that led to it go: one step. */
  async accept(picture: Blob, from: { job: string; sha256: string }): Promise<void> {
    const bitmap = await createImageBitmap(picture);
    const { width, height } = bitmap;
    if (!isSide(width) || !isSide(height)) { // larger than a painting
      bitmap.close();
      const smaller = await decode(picture);
      notify(smaller.notes.join(" "), "info");
      const hash = await this.#add(smaller.blob);
      this.#accepted(hash, smaller.width, smaller.height, from.sha256);
      return;
    }
    this.pictures.set(from.sha256, picture);
    this.#hold(from.sha256, bitmap);
    this.#accepted(from.sha256, width, height, from.sha256);
  }

  #accepted(picture: string, width: number, height: number, parent: string): void {
    const { mask } = this.content;
    const same = width === this.content.width && height === this.content.height;
    const change = { picture, width, height, strokes: [], mask: same ? mask : [], parents: [parent] };
    this.#become(replaced(this.#history, change));
  }

  guide(): Promise<Blob> {
    return this.easel.guide(this.shown);
  }

  async picture(): Promise<Blob | null> {
    return this.#blob(this.content.picture);
  }

  async mask(): Promise<Blob | null> {
    return this.shown.mask.visible ? this.easel.masked() : null;
  }

  async reference(): Promise<Blob | null> {
    return this.#blob(this.content.reference);
  }

  /** All of it as it is now, apart from what goes on changing. */
  painting(): Painting {
    return {
      id: this.id, name: this.name, changed: Date.now(), history: this.#history, shown: $state.snapshot(this.shown),
      settings: $state.snapshot(this.settings), runs: $state.snapshot(this.runs),
    };
  }

  thumbnail(): Promise<Blob> {
    const [whole] = this.easel.composed(this.shown);
    const scale = Math.min(1, THUMBNAIL / Math.max(whole.width, whole.height));
    const small = document.createElement("canvas");
    small.width = Math.max(1, Math.round(whole.width * scale));
    small.height = Math.max(1, Math.round(whole.height * scale));
    small.getContext("2d")?.drawImage(whole, 0, 0, small.width, small.height);
    return written(small);
  }

  /** All that waits to be kept is kept. */
  async close(): Promise<void> {
    if (this.#stop()) this.#saver.save();
    await this.#saver.finish();
    for (const bitmap of this.#bitmaps.values()) bitmap.close();
  }

  /** Nothing more of it is kept. */
  async discard(): Promise<void> {
    this.#stop();
    await this.#saver.finish();
  }

  async flush(): Promise<void> {
    if (this.#waiting) this.#saver.save();
    await this.#saver.finish();
  }

  /** Kept with a thumbnail that shows it as it is now. */
  pictured(): Promise<void> {
    return this.#saver.picture();
  }

  #blob(hash: string | null): Blob | null {
    return hash === null ? null : (this.pictures.get(hash) ?? null);
  }

  async #add(blob: Blob): Promise<string> {
    const hash = await sha256(blob);
    this.pictures.set(hash, blob);
    if (!this.#bitmaps.has(hash)) this.#hold(hash, await createImageBitmap(blob));
    return hash;
  }

  #hold(hash: string, bitmap: ImageBitmap): void {
    this.#bitmaps.get(hash)?.close();
    this.#bitmaps.delete(hash);
    this.#bitmaps.set(hash, bitmap);
    for (const [other, old] of this.#bitmaps) {
      if (this.#bitmaps.size <= DECODED) break;
      old.close();
      this.#bitmaps.delete(other);
    }
  }

  #become(history: History): void {
    if (history === this.#history) return;
    this.#history = history;
    this.#forget();
    this.#show();
    this.#saver.save();
  }

  /** Pictures that no step leads to any more. */
  #forget(): void {
    const used = new Set(contentsOf(this.#history).flatMap(imagesOf));
    for (const hash of this.pictures.keys()) if (!used.has(hash)) this.pictures.delete(hash);
  }

  #show(): void {
    const { picture } = this.content;
    const bitmap = picture === null ? null : this.#bitmaps.get(picture);
    if (bitmap === undefined) void this.#load();
    else {
      this.easel.show(this.content, bitmap);
      this.drawn++;
    }
  }

  async #load(): Promise<void> {
    const { picture } = this.content;
    const blob = this.#blob(picture);
    if (picture !== null && blob) {
      try {
        this.#hold(picture, await createImageBitmap(blob));
      } catch {
        notify(t("document.picture-lost"), "bad");
      }
    }
    const now = this.content.picture;
    if (now === picture) {
      this.easel.show(this.content, now === null ? null : (this.#bitmaps.get(now) ?? null));
      this.drawn++;
    }
  }

  /** Settings, layers shown and runs are kept a little after they change; the answer stops that, and says
   * whether something waited. */
  #watch(): () => boolean {
    let first = true;
    const stop = $effect.root(() => {
      $effect(() => {
        $state.snapshot(this.shown);
        $state.snapshot(this.settings);
        $state.snapshot(this.runs);
        if (!first) {
          clearTimeout(this.#waiting);
          this.#waiting = setTimeout(() => {
            this.#waiting = undefined;
            this.#saver.save();
          }, SETTLE);
        }
        first = false;
      });
    });
    return () => {
      stop();
      const waited = this.#waiting !== undefined;
      clearTimeout(this.#waiting);
      this.#waiting = undefined;
      return waited;
    };
  }
}
