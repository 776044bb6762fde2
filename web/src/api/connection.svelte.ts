// Whether the server answers. A request that fails, or a stream that breaks, says that it does not.
import { SvelteSet } from "svelte/reactivity";

class Connection {
  lost = $state(false);
  readonly #back = new SvelteSet<() => void>();

  failed(): void {
    this.lost = true;
  }

  answered(): void {
    if (!this.lost) return;
    this.lost = false;
    for (const call of this.#back) call();
  }

  /** Call it whenever the server is back; the answer stops that. */
  onBack(call: () => void): () => void {
    this.#back.add(call);
    return () => this.#back.delete(call);
  }
}

export const connection = new Connection();
