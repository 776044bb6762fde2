// What a run would cost, asked of the server a moment after the settings have come to rest.
import { api, type Plan } from "../api/client";
import { Refusal, sentence, Unreachable } from "../api/problem";
import { catalogue } from "../forms/methods.svelte";
import type { Desk } from "./desk";
import { modelOf } from "./offered";
import { blank, requestOf } from "./request";

const REST = 350; // milliseconds

class Cost {
  plan = $state.raw<Plan | null>(null);
  /** What is wrong with the settings, and of which field. */
  wrong = $state.raw<{ text: string; field: string | null } | null>(null);
  #timer: ReturnType<typeof setTimeout> | undefined;
  #asking: AbortController | null = null;

  ask(desk: Desk, seed: number): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => void this.#ask(desk, seed), REST);
  }

  async #ask(desk: Desk, seed: number): Promise<void> {
    this.#asking?.abort();
    const asking = (this.#asking = new AbortController());
    try {
      const model = modelOf(desk.settings);
      const body = await requestOf(blank(desk), (id) => catalogue.method(id), model.name, { seed });
      const plan = await api.post("/v1/plan", { body, signal: asking.signal });
      if (asking.signal.aborted) return;
      this.plan = plan;
      this.wrong = null;
    } catch (error) {
      if (asking.signal.aborted || error instanceof Unreachable) return;
      this.plan = null;
      const field = error instanceof Refusal ? error.field : null;
      this.wrong = { text: sentence(error), field };
    }
  }
}

export const cost = new Cost();
