// Texts: t(key, values) in the language that was chosen, else the browser's. One catalogue, in a
// file for each part of the page; catalogue.ts fails a build in which a key is missing.
import enCanvas from "./en/canvas.json";
import enGallery from "./en/gallery.json";
import enMethods from "./en/methods.json";
import enShell from "./en/shell.json";
import koCanvas from "./ko/canvas.json";
import koGallery from "./ko/gallery.json";
import koMethods from "./ko/methods.json";
import koShell from "./ko/shell.json";
import { kept, keep } from "../shell/kept";

const en = { ...enShell, ...enCanvas, ...enGallery, ...enMethods };
const ko: Record<string, string> = { ...koShell, ...koCanvas, ...koGallery, ...koMethods };

export type Key = keyof typeof en;
export type Values = Record<string, string | number>;
export const LOCALES = { en: "English", ko: "한국어" } as const;
export type Locale = keyof typeof LOCALES;

const catalogues: Record<Locale, Record<string, string>> = { en, ko };

function preferred(): Locale {
  const chosen = kept("locale");
  if (chosen === "en" || chosen === "ko") return chosen;
  return globalThis.navigator?.language?.startsWith("ko") ? "ko" : "en";
}

class Chosen {
  #current: Locale = $state(preferred());

  get current(): Locale {
    return this.#current;
  }

  set current(value: Locale) {
    this.#current = value;
    keep("locale", value);
  }
}

export const locale = new Chosen();

/** The text of a key; {n} is a value, {n:one|many} a word by the number n. */
export function t(key: Key, values: Values = {}): string {
  return filled(catalogues[locale.current][key] ?? key, values, locale.current);
}

/** A text that a catalogue may have, such as of a method's field, else the one given. */
export function maybe(key: string, otherwise: string): string {
  return catalogues[locale.current][key] ?? otherwise;
}

export function filled(text: string, values: Values, language: Locale): string {
  return text.replace(/\{(\w+)(?::([^|}]*)\|([^}]*))?\}/g, (whole, name: string, one, many) => {
    const value = values[name];
    if (value === undefined) return whole;
    if (one !== undefined) return value === 1 ? one : many;
    return typeof value === "number" ? number(value, language) : value;
  });
}

export function number(value: number, language: Locale = locale.current, digits = 2): string {
  return new Intl.NumberFormat(language, { maximumFractionDigits: digits }).format(value);
}
