// The gallery's pictures: a search, its pages one after the other, what is chosen, what is deleted.
import { SvelteMap } from "svelte/reactivity";
import { address, api, type Schemas } from "../api/client";
import { connection } from "../api/connection.svelte";
import { sentence } from "../api/problem";
import { jobs } from "../jobs/jobs.svelte";

export type GalleryPicture = Schemas["GalleryPicture"];

const FIRST = 100; // pictures of the first page, which is to be there soon
const PAGE = 500;
const AT_ONCE = 1000; // pictures of one request
const SOON = 400; // milliseconds in which several new pictures are asked for together

export function keyOf(picture: { job: string; place: number }): string {
  return `${picture.job}-${picture.place}`;
}

/** Where a small copy is. */
export function thumbnail(sha256: string, side: number): string {
  const pixels = side * (globalThis.devicePixelRatio ?? 1);
  const size = pixels > 288 ? "large" : pixels > 144 ? "medium" : "small";
  return address("/v1/images/{sha256}/thumbnail", { sha256 }, { size });
}

class Gallery {
  words = $state("");
  method = $state<string | null>(null);
  model = $state<string | null>(null);
  /** Those that are here; the rest of `total` comes page by page. */
  pictures = $state.raw<readonly GalleryPicture[]>([]);
  total = $state(0);
  /** New pictures that wait above, so that nothing jumps under the finger. */
  newer = $state(0);
  state = $state<"idle" | "loading" | "ready" | "failed">("idle");
  error = $state<string | null>(null);
  readonly chosen = new SvelteMap<string, GalleryPicture>();

  #next: string | null = null;
  #asking: AbortController | null = null;
  #more: Promise<void> | null = null;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #quiet = () => true;

  /** Be told of new pictures, and of the server's return. atTop: whether they may be shown at once. */
  follow(atTop: () => boolean): () => void {
    this.#quiet = atTop;
    const stop = jobs.listen((job, event) => {
      if (event.event === "picture" && job.kind === "recipe") this.#soon();
    });
    const back = connection.onBack(() => void this.fresh());
    return () => { stop(); back(); };
  }

  get #query() {
    return { words: this.words.trim(), ...(this.method ? { method: this.method } : {}), ...(this.model ? { model: this.model } : {}) };
  }

  /** Search anew. */
  async search(): Promise<void> {
    this.#asking?.abort();
    const asking = (this.#asking = new AbortController());
    this.#more = null;
    this.state = "loading";
    try {
      const page = await api.get("/v1/gallery", {
        query: { ...this.#query, limit: FIRST }, signal: asking.signal,
      });
      if (asking.signal.aborted) return;
      this.pictures = page.pictures;
      this.total = page.total ?? page.pictures.length;
      this.#next = page.next;
      this.newer = 0;
      this.error = null;
      this.state = "ready";
    } catch (error) {
      if (asking.signal.aborted) return;
      this.error = sentence(error);
      this.state = "failed";
    }
  }

  /** Have at least so many pictures here. */
  async reach(count: number): Promise<void> {
    while (this.#next !== null && this.pictures.length < Math.min(count, this.total)) {
      this.#more ??= this.#load(this.#next);
      const asked = this.#more;
      await asked;
      if (this.#more === asked) this.#more = null;
      else return; // another search
      if (this.state === "failed") return;
    }
  }

  async #load(before: string): Promise<void> {
    const asking = this.#asking;
    try {
      const page = await api.get("/v1/gallery", { query: { ...this.#query, before, limit: PAGE } });
      if (asking !== this.#asking) return;
      const known = new Set(this.pictures.map(keyOf));
      this.pictures = [...this.pictures, ...page.pictures.filter((picture) => !known.has(keyOf(picture)))];
      this.#next = page.next;
      if (page.next === null) this.total = this.pictures.length;
    } catch (error) {
      if (asking !== this.#asking) return;
      this.error = sentence(error);
      this.state = "failed";
    }
  }

  #soon(): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => void this.#look(), SOON);
  }

  async #look(): Promise<void> {
    if (this.state !== "ready") return;
    if (this.#quiet()) await this.fresh();
    else this.newer += 1;
  }

  /** Show what has come since, above what is here. */
  async fresh(): Promise<void> {
    if (this.pictures.length < FIRST || this.#next === null) {
      await this.search();
      return;
    }
    const asking = this.#asking;
    try {
      const page = await api.get("/v1/gallery", { query: { ...this.#query, limit: FIRST } });
      if (asking !== this.#asking) return;
      const known = new Set(this.pictures.map(keyOf));
      const added = page.pictures.filter((picture) => !known.has(keyOf(picture)));
      if (added.length === page.pictures.length) {
        await this.search(); // more than a page has come: the gap between would stay
        return;
      }
      this.pictures = [...added, ...this.pictures];
      this.total = page.total ?? this.total + added.length;
      this.newer = 0;
    } catch {
      return; // said by the connection; asked again when it is back
    }
  }

  at(key: string): GalleryPicture | undefined {
    return this.pictures.find((picture) => keyOf(picture) === key);
  }

  toggle(picture: GalleryPicture): void {
    const key = keyOf(picture);
    if (!this.chosen.delete(key)) this.chosen.set(key, picture);
  }

  /** From the one that was chosen last to this one. */
  extend(from: string, to: GalleryPicture): void {
    const places = [from, keyOf(to)].map((key) => this.pictures.findIndex((picture) => keyOf(picture) === key));
    const [low = -1, high = -1] = places.sort((a, b) => a - b);
    if (low < 0) return;
    for (const picture of this.pictures.slice(low, high + 1)) this.chosen.set(keyOf(picture), picture);
  }

  /** Delete pictures; what is returned brings them back. */
  async remove(gone: readonly GalleryPicture[]): Promise<() => Promise<void>> {
    for (const pictures of parts(gone)) await api.post("/v1/gallery/delete", { body: { pictures } });
    const keys = new Set(gone.map(keyOf));
    const before = this.pictures;
    this.pictures = before.filter((picture) => !keys.has(keyOf(picture)));
    this.total -= before.length - this.pictures.length;
    for (const key of keys) this.chosen.delete(key);
    return async () => {
      for (const pictures of parts(gone)) await api.post("/v1/gallery/restore", { body: { pictures } });
      await this.search();
    };
  }
}

/** As requests name them, in parts of what one may name. */
export function parts(pictures: readonly GalleryPicture[]): { job: string; place: number }[][] {
  const named = pictures.map(({ job, place }) => ({ job, place }));
  return Array.from({ length: Math.ceil(named.length / AT_ONCE) }, (_, k) => named.slice(k * AT_ONCE, (k + 1) * AT_ONCE));
}

export const gallery = new Gallery();
