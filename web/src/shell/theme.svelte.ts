// Light or dark: the system's, or what was chosen here.
import { keep, kept } from "./kept";

export const THEMES = ["system", "light", "dark"] as const;
export type Theme = (typeof THEMES)[number];

class Chosen {
  #current = $state<Theme>(THEMES.find((theme) => theme === kept("theme")) ?? "system");

  constructor() {
    this.#apply();
  }

  get current(): Theme {
    return this.#current;
  }

  set current(value: Theme) {
    this.#current = value;
    keep("theme", value);
    this.#apply();
  }

  #apply(): void {
    if (this.#current === "system") delete document.documentElement.dataset["theme"];
    else document.documentElement.dataset["theme"] = this.#current;
  }
}

export const theme = new Chosen();
