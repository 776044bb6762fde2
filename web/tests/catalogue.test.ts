// A text that one language lacks fails the build.
import { expect, test } from "vitest";
import { faults, used } from "../catalogue";
import { filled } from "../src/i18n/index.svelte";

const texts = (parts: Record<string, string>) => new Map(Object.entries(parts));

test("what is missing is named", () => {
  const en = texts({ a: "A", b: "{n} of {m}" });
  expect(faults(en, texts({ a: "가", b: "{m} 중 {n}" }), new Map())).toEqual([]);
  expect(faults(en, texts({ a: "가" }), new Map())).toEqual(["b: missing in ko"]);
  expect(faults(en, texts({ a: "가", b: "{n}" }), new Map())).toEqual(["b: has other places in ko"]);
  expect(faults(texts({ a: "A" }), texts({ a: "가", c: "다" }), new Map())).toEqual(["c: missing in en"]);
  const sources = new Map([["X.svelte", 't("none") t(\'a\') format("b")']]);
  expect(faults(texts({ a: "A" }), texts({ a: "가" }), sources)).toEqual(["none: used in X.svelte, and in no catalogue"]);
  expect(used('{t("x.y-z", { n })}')).toEqual(["x.y-z"]);
});

test("values and words by number", () => {
  expect(filled("{n} {n:picture|pictures}", { n: 1 }, "en")).toBe("1 picture");
  expect(filled("{n} {n:picture|pictures}", { n: 1234 }, "en")).toBe("1,234 pictures");
  expect(filled("{name}", { name: "a {n}" }, "en")).toBe("a {n}");
});
