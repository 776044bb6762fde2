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
    this.again();
  }

  /** What was asked in vain may be asked once more: it is back, or somebody has logged in. */
  again(): void {
    for (const call of this.#back) call();
  }

  /** Call it whenever the server is back, or lets one in; the answer stops that. */
  onBack(call: () => void): () => void {
    this.#back.add(call);
    return () => this.#back.delete(call);
  }
}

export const connection = new Connection();
