// Which painting was open last: in this tab, else in any, so that a reload comes back to its own.
import { keep, kept } from "../shell/kept";

const NAME = "painting";

export function lastOpen(): string | undefined {
  try {
    return sessionStorage.getItem(`sfumato.${NAME}`) ?? kept(NAME);
  } catch {
    return kept(NAME); // refused by the browser's settings
  }
}

export function isOpen(id: string): void {
  keep(NAME, id);
  try {
    sessionStorage.setItem(`sfumato.${NAME}`, id);
  } catch {
    return; // refused, or full
  }
}
