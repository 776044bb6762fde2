// A change of a document's settings, as a new value, so that whoever looks at them sees it.
import type { Desk } from "./desk";
import type { Settings } from "./settings";

export function change(desk: Desk, part: Partial<Settings>): void {
  desk.settings = { ...desk.settings, ...part };
}
