// `parameters` of other programs (A1111 and those that write as it does): prompt, negative prompt,
// and a line of settings.

export interface Parameters {
  prompt: string;
  negative: string;
  settings: Map<string, string>;
}

const NEGATIVE = "Negative prompt:";
const SETTING = /\s*([\w ][\w \-/]*):\s*("(?:\\.|[^\\"])*"|[^,]*)(?:,|$)/gy;

/** The parts of such a text; null where it has no settings, and so is another text. */
export function parameters(text: string): Parameters | null {
  const lines = text.replace(/\r\n?/g, "\n").trim().split("\n");
  const last = lines.findLastIndex((line) => /(^|, )Steps: *\d+/.test(line));
  if (last < 0) return null;
  const settings = settingsOf(lines[last] ?? "");
  const words = lines.slice(0, last);
  const cut = words.findIndex((line) => line.startsWith(NEGATIVE));
  const prompt = cut < 0 ? words : words.slice(0, cut);
  const negative = cut < 0 ? [] : words.slice(cut);
  return {
    prompt: prompt.join("\n").trim(),
    negative: negative.join("\n").replace(NEGATIVE, "").trim(),
    settings,
  };
}

function settingsOf(line: string): Map<string, string> {
  const found = new Map<string, string>();
  for (const [, name = "", value = ""] of line.matchAll(SETTING)) {
    found.set(name.trim(), value.startsWith('"') ? unquoted(value) : value.trim());
  }
  return found;
}

function unquoted(text: string): string {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === "string" ? value : text;
  } catch {
    return text.slice(1, -1);
  }
}

/** A number among the settings; null where it is none, or out of range. */
export function numberOf(
  { settings }: Parameters, name: string, low: number, high: number,
): number | null {
  const text = settings.get(name);
  if (text === undefined || !/^-?\d+(\.\d+)?$/.test(text)) return null;
  const value = Number(text);
  return value >= low && value <= high ? value : null;
}

const LORA = /<(?:lora|hypernet|lyco):[^<>]*>/g;

/** A prompt without the adapters that it names, which are no words for the model, and these. */
export function withoutLoras(prompt: string): { words: string; loras: string[] } {
  const loras = prompt.match(LORA) ?? [];
  const words = loras.length ? prompt.replace(LORA, "").trim().replace(/^,+|,+$/g, "").trim() : prompt;
  return { words, loras };
}
