// Sentences that are shown for a while, one under the other.
export type Kind = "info" | "good" | "bad";

export interface Action {
  label: string;
  run: () => void;
}

export interface Notice {
  id: number;
  text: string;
  kind: Kind;
  action?: Action;
}

const LASTS: Record<Kind, number> = { info: 6000, good: 4000, bad: 12_000 }; // milliseconds
const MOST = 4;

class Notices {
  list = $state<Notice[]>([]);
  #next = 0;

  add(text: string, kind: Kind, action?: Action): void {
    if (this.list.some((notice) => notice.text === text)) return;
    const id = this.#next++;
    this.list = [...this.list, { id, text, kind, ...(action ? { action } : {}) }].slice(-MOST);
    setTimeout(() => this.drop(id), action ? 10_000 : LASTS[kind]);
  }

  drop(id: number): void {
    this.list = this.list.filter((notice) => notice.id !== id);
  }
}

export const notices = new Notices();

export function notify(text: string, kind: Kind = "info", action?: Action): void {
  notices.add(text, kind, action);
}
