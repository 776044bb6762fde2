// What lies upon the painting while there is no decision yet: the newest preview, a
// frame of the film that is looked at, or a proposal.
import { imageUrl } from "../api/client";
import { film } from "../film/film.svelte";
import { runs } from "./runs.svelte";

class Overlay {
  /** How much of the result is seen, the guide of the rest; none: all of it. */
  compare = $state<number | null>(null);
  readonly #preview = $derived(runs.current?.preview ?? (runs.live.at ? (runs.live.job?.preview ?? null) : null));
  /** Address of a picture. */
  readonly picture = $derived.by(() => {
    if (this.#preview !== null) return this.#preview;
    if (film.picked?.sha256) return imageUrl(film.picked.sha256);
    return runs.proposal && !this.#began ? imageUrl(runs.proposal.file.sha256) : null;
  });
  /** A run is at work, and shows nothing yet: the painting is seen as it was sent. */
  readonly #began = $derived(runs.current !== null);
  readonly share = $derived(this.#preview === null ? this.compare : null);
}

export const overlay = new Overlay();
