import { zlibSync } from "fflate";
import { describe, expect, test } from "vitest";
import { textsOf } from "../src/png/chunks";
import { parameters } from "../src/png/parameters";
import { asked, carried, inputsOf, placeOf } from "../src/png/recipe";
import SAMPLERS from "./samplers.json";

const utf8 = (text: string) => new TextEncoder().encode(text);
const latin = (text: string) => Uint8Array.from(text, (sign) => sign.charCodeAt(0));
const joined = (...parts: Uint8Array[]) => Uint8Array.from(parts.flatMap((part) => [...part]));

function chunk(kind: string, data: Uint8Array): Uint8Array {
  const size = new Uint8Array(4);
  new DataView(size.buffer).setUint32(0, data.length);
  return joined(size, latin(kind), data, new Uint8Array(4)); // nobody reads the sum
}

function png(...chunks: Uint8Array[]): Uint8Array {
  return joined(latin("\x89PNG\r\n\x1a\n"), chunk("IHDR", new Uint8Array(13)), ...chunks, chunk("IEND", new Uint8Array()));
}

const text = (key: string, value: string) => chunk("tEXt", joined(utf8(`${key}\0`), latin(value)));
const itxt = (key: string, value: string) => chunk("iTXt", joined(utf8(`${key}\0\0\0\0\0`), utf8(value)));
const RECIPE = {
  schema: 1, model: "emoji", prompt: "빨간 사과", seed: 3, n: 2, run: { index: 1, device: "cpu" },
  versions: { sfumato: "1" }, methods: [{ method: "sdedit", image: { sha256: "a".repeat(64), name: "a.png" } }],
};

describe("texts of a PNG", () => {
  test("are read of all three kinds, behind the pixels too", () => {
    const packed = zlibSync(utf8("packed ü"));
    const file = png(
      text("Title", "caf\xe9"),
      chunk("IDAT", new Uint8Array(100)),
      itxt("sfumato", "빨간"),
      chunk("zTXt", joined(utf8("z\0\0"), packed)),
      chunk("iTXt", joined(utf8("i\0\x01\0en\0trans\0"), packed)),
      text("Title", "again"),
    );
    expect([...textsOf(file)]).toEqual([["Title", "café"], ["sfumato", "빨간"], ["z", "packed ü"], ["i", "packed ü"]]);
  });

  test("that are broken, cut off or bombs are left out", () => {
    const bomb = zlibSync(new Uint8Array(17 << 20));
    const file = png(chunk("zTXt", joined(utf8("z\0\0"), bomb)), chunk("iTXt", utf8("short\0")), chunk("tEXt", utf8("no end")));
    expect(textsOf(file).size).toBe(0);
    const whole = png(text("a", "1"), text("b", "2"));
    for (let end = 0; end < whole.length; end++) expect(textsOf(whole.subarray(0, end)).size).toBeLessThanOrEqual(2);
    expect(textsOf(utf8("JFIF")).size).toBe(0);
  });
});

describe("settings of a picture", () => {
  test("ours are its recipe, asked for anew", () => {
    const found = carried(png(itxt("parameters", "x\nSteps: 3"), itxt("sfumato", JSON.stringify(RECIPE))));
    if (found.kind !== "recipe") throw new Error(found.kind);
    expect(asked(found.recipe)).not.toHaveProperty("run");
    expect(asked(found.recipe)["n"]).toBe(2);
    expect(placeOf(found.recipe)).toBe(1);
    expect(inputsOf(found.recipe)).toEqual(["a".repeat(64)]);
  });

  test("of other programs are read as far as we have the like", () => {
    const words = 'a "cat", (red:1.2)\nsecond line\nNegative prompt: dog,\nblurry\nSteps: 20, Sampler: DPM++ 2M Karras, '
      + 'CFG scale: 7.5, Seed: 42, Size: 512x768, Model: dreamy, Denoising strength: 0.45, Lora hashes: "a: 1, b: 2", Version: v1.9';
    const found = carried(png(text("parameters", words)));
    expect(found).toEqual({
      kind: "parameters", model: "dreamy", left: ["Lora hashes", "Version"],
      recipe: {
        prompt: 'a "cat", (red:1.2)\nsecond line', negative: "dog,\nblurry", steps: 20, seed: 42, solver: "dpmpp-2m", spacing: "karras",
        methods: [{ method: "cfg", scale: 7.5 }, { method: "sdedit", t0: 0.45 }],
      },
    });
    expect(parameters(words)?.settings.get("Lora hashes")).toBe("a: 1, b: 2");
  });

  test("name samplers and schedules as the library reads them", () => {
    for (const { sampler, schedule, solver, spacing, left } of SAMPLERS) {
      const named = `Sampler: ${sampler}${schedule === null ? "" : `, Schedule type: ${schedule}`}`;
      const found = carried(png(text("parameters", `cat\nSteps: 5, ${named}`)));
      if (found.kind !== "parameters") throw new Error(found.kind);
      const said = [found.recipe["solver"] ?? null, found.recipe["spacing"] ?? null, found.left];
      expect(said, named).toEqual([solver, spacing, left]);
    }
    const lcm = carried(png(text("parameters", "cat\nSteps: 4, Sampler: LCM")));
    expect(lcm).toMatchObject({ recipe: { solver: "lcm" }, left: [] });
  });

  test("of an enlarged pass, and adapters named in a prompt, are not taken for a picture's", () => {
    const found = carried(png(text("parameters", "<lora:dog:0.8>, a cat\nSteps: 5, Denoising strength: 0.5, Hires upscale: 2")));
    expect(found).toMatchObject({ recipe: { prompt: "a cat", steps: 5 }, left: ["Denoising strength", "Hires upscale", "<lora:dog:0.8>"] });
    expect(found).not.toHaveProperty("recipe.methods");
  });

  test("that no program wrote are none", () => {
    expect(carried(png())).toEqual({ kind: "none", png: true });
    expect(carried(utf8("GIF89a"))).toEqual({ kind: "none", png: false });
    expect(carried(png(text("parameters", "just words")))).toEqual({ kind: "none", png: true });
    expect(carried(png(itxt("sfumato", "{broken")))).toEqual({ kind: "none", png: true });
    const odd = carried(png(text("parameters", "cat\nSteps: 20, Seed: -1, CFG scale: many")));
    expect(odd).toMatchObject({ recipe: { prompt: "cat", steps: 20 } });
  });
});
