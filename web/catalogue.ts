// The plugin that fails a build whose texts are not whole: a key that one language lacks, a key
// that is used and in none, or a place ({n}) that one language lacks.
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import type { Plugin } from "vite";

const SOURCE = join(import.meta.dirname, "src");

type Texts = Map<string, string>;

function read(locale: string): Texts {
  const texts: Texts = new Map();
  const folder = join(SOURCE, "i18n", locale);
  for (const file of readdirSync(folder).sort()) {
    const part: Record<string, string> = JSON.parse(readFileSync(join(folder, file), "utf-8"));
    for (const [key, text] of Object.entries(part)) {
      if (texts.has(key)) throw new Error(`i18n/${locale}/${file}: ${key} is there twice`);
      texts.set(key, text);
    }
  }
  return texts;
}

function places(text: string): string {
  const named = [...text.matchAll(/\{(\w+)[:}]/g)].map((match) => match[1] ?? "");
  return [...new Set(named)].sort().join(", ");
}

export function used(source: string): string[] {
  return [...source.matchAll(/\bt\(\s*["']([\w.-]+)["']/g)].map((match) => match[1] ?? "");
}

export function faults(en: Texts, ko: Texts, sources: Map<string, string>): string[] {
  const found: string[] = [];
  for (const [one, other, name] of [[en, ko, "ko"], [ko, en, "en"]] as const) {
    for (const [key, text] of one) {
      const same = other.get(key);
      if (same === undefined) found.push(`${key}: missing in ${name}`);
      else if (name === "ko" && places(text) !== places(same)) found.push(`${key}: has other places in ${name}`);
    }
  }
  for (const [file, source] of sources) {
    for (const key of used(source)) {
      if (!en.has(key)) found.push(`${key}: used in ${file}, and in no catalogue`);
    }
  }
  return [...new Set(found)];
}

function sources(): Map<string, string> {
  const files = readdirSync(SOURCE, { recursive: true, encoding: "utf-8" })
    .filter((file) => /\.(svelte|ts)$/.test(file) && !file.endsWith(".test.ts"))
    .sort();
  return new Map(files.map((file) => [file, readFileSync(join(SOURCE, file), "utf-8")]));
}

export function catalogue(): Plugin {
  return {
    name: "catalogue",
    buildStart() {
      const wrong = faults(read("en"), read("ko"), sources());
      if (wrong.length) this.error(`i18n:\n  ${wrong.join("\n  ")}`);
    },
  };
}
