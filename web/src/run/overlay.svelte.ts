// What is shown over the picture while there is no decision yet: the newest preview, a
// frame of the film that is looked at, or a proposal.
import { api } from "../api/client";
import { film } from "../film/film.svelte";
import { runs } from "./runs.svelte";

const KEPT = 6; // pictures that were decoded last

class Overlay {
  bitmap = $state.raw<ImageBitmap | null>(null);
  /** How much of the result is seen, from the left, of the guide the rest; none: all of it. */
  compare = $state<number | null>(null);
  /** Of a preview all is seen. */
  readonly share = $derived(runs.current === null && !runs.live.at ? this.compare : null);
  readonly #decoded = new Map<string, Promise<ImageBitmap>>();
  #wanted: string | null = null;
  #preview: ImageBitmap | null = null;

  /** Follow runs, as an effect of the page that shows it. */
  follow(): void {
    const preview = runs.current?.preview ?? (runs.live.at ? (runs.live.job?.preview ?? null) : null);
    const proposed = runs.current === null ? (runs.proposal?.file.sha256 ?? null) : null;
    const hash = film.picked?.sha256 ?? proposed;
    if (preview !== null) void this.#show(preview, () => decode(preview), true);
    else if (hash !== null) void this.#show(hash, () => this.#picture(hash), false);
    else this.#clear();
  }

  #clear(): void {
    this.#wanted = null;
    this.bitmap = null;
  }

  async #show(name: string, load: () => Promise<ImageBitmap>, preview: boolean): Promise<void> {
    this.#wanted = name;
    try {
      const bitmap = await load();
      if (this.#wanted !== name) {
        if (preview) bitmap.close();
        return;
      }
      this.bitmap = bitmap;
      const before = this.#preview;
      this.#preview = preview ? bitmap : null;
      if (before && before !== bitmap) before.close();
    } catch {
      return; // a picture that is gone, or a preview cut short: what is shown stays
    }
  }

  #picture(hash: string): Promise<ImageBitmap> {
    const known = this.#decoded.get(hash);
    if (known) return known;
    const made = api.image(hash).then((blob) => createImageBitmap(blob));
    this.#decoded.set(hash, made);
    made.catch(() => this.#decoded.delete(hash));
    const [oldest] = this.#decoded.keys();
    if (this.#decoded.size > KEPT && oldest !== undefined) {
      void this.#decoded.get(oldest)?.then((bitmap) => bitmap !== this.bitmap && bitmap.close(), () => undefined);
      this.#decoded.delete(oldest);
    }
    return made;
  }
}

/** A data URL as a bitmap; the page's policy lets nothing be fetched but from its server. */
async function decode(url: string): Promise<ImageBitmap> {
  const [head = "", data = ""] = url.split(",");
  const bytes = Uint8Array.from(atob(data), (sign) => sign.charCodeAt(0));
  return createImageBitmap(new Blob([bytes], { type: /^data:([^;]+)/.exec(head)?.[1] ?? "image/webp" }));
}

export const overlay = new Overlay();
