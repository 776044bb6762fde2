// Keys and what they do; the sheet (?) lists what is registered.
import { untrack } from "svelte";
import type { Key } from "../i18n/index.svelte";

export interface Shortcut {
  /** Such as "b", "mod+z", "shift+mod+z", "[", "?"; mod is ctrl, on a Mac cmd. */
  keys: string;
  label: Key;
  run: (event: KeyboardEvent) => void;
  when?: () => boolean;
  /** Acts while a text is being typed too. */
  typing?: boolean;
}

const MAC = /Mac|iPhone|iPad/.test(globalThis.navigator?.platform ?? "");

/** As a keyboard shows it. */
export function shown(keys: string): string[] {
  const signs: Record<string, string> = MAC
    ? { mod: "⌘", shift: "⇧", alt: "⌥", enter: "↩" }
    : { mod: "Ctrl", shift: "Shift", alt: "Alt", enter: "Enter" };
  const names: Record<string, string> = { escape: "Esc", space: "␣", delete: "Del", ...signs };
  return keys.split(/\+(?=.)/).map((key) => names[key] ?? (key.length === 1 ? key.toUpperCase() : key));
}

function pressed(event: KeyboardEvent): string {
  const key = event.key === " " ? "space" : event.key.toLowerCase();
  const mod = MAC ? event.metaKey : event.ctrlKey;
  const sign = key.length === 1 && !/[a-z0-9]/.test(key); // its shift is in the sign
  const parts = [
    event.shiftKey && !sign ? "shift" : "", event.altKey ? "alt" : "", mod ? "mod" : "", key,
  ];
  return parts.filter(Boolean).join("+");
}

function types(target: EventTarget | null): boolean {
  if (!(target instanceof HTMLElement)) return false;
  if (target instanceof HTMLInputElement) return !["range", "checkbox", "button"].includes(target.type);
  return target instanceof HTMLTextAreaElement || target instanceof HTMLSelectElement || target.isContentEditable;
}

function acts(target: EventTarget | null): boolean {
  return target instanceof Element && target.closest("button, a, select, summary, [role=option]") !== null;
}

class Shortcuts {
  list = $state.raw<readonly Shortcut[]>([]);

  /** The answer takes it away. */
  register(...added: Shortcut[]): () => void {
    this.list = [...untrack(() => this.list), ...added]; // whoever registers does not follow the list
    return () => (this.list = this.list.filter((shortcut) => !added.includes(shortcut)));
  }

  press(event: KeyboardEvent): void {
    if (event.defaultPrevented || event.isComposing) return;
    const keys = pressed(event);
    if ((keys === "enter" || keys === "space") && acts(event.target)) return; // it is what is pressed
    const typing = types(event.target) || document.querySelector("dialog[open]") !== null;
    const found = this.list.findLast(
      (shortcut) => shortcut.keys === keys && (!typing || shortcut.typing) && (shortcut.when?.() ?? true),
    );
    if (!found) return;
    event.preventDefault();
    found.run(event);
  }
}

export const shortcuts = new Shortcuts();
