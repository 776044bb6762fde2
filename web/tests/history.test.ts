import { expect, test } from "vitest";
import { blankContent, fitted, isBlank } from "../src/document/content";
import { begun, contentsOf, marked, marksOf, redone, replaced, undone, type History } from "../src/document/history";
import type { Mark } from "../src/document/marks";

function mark(id: string): Mark {
  return { kind: "stroke", id, points: [1, 2, 0.5], size: 3, color: "#000000", opacity: 1, erase: false };
}

const ids = (history: History) => history.content.strokes.map(({ id }) => id).join("");

function painted(names: string): History {
  return [...names].reduce((history, id) => marked(history, "strokes", mark(id)), begun(blankContent(64, 64)));
}

test("strokes are undone one by one, and done again", () => {
  let history = painted("abc");
  history = undone(undone(history));
  expect(ids(history)).toBe("a");
  history = redone(history);
  expect(ids(history)).toBe("ab");
});

test("a new stroke ends what could be done again", () => {
  const history = redone(marked(undone(painted("abc")), "strokes", mark("x")));
  expect(ids(history)).toBe("abx");
});

test("nothing to undo or redo changes nothing", () => {
  const history = painted("");
  expect(undone(history)).toBe(history);
  expect(redone(history)).toBe(history);
});

test("a thousand steps go back to the first and forth to the last", () => {
  let history = begun(blankContent(64, 64));
  for (let i = 0; i < 1000; i++) history = marked(history, i % 3 ? "strokes" : "mask", mark(String(i)));
  const end = history.content;
  for (let i = 0; i < 1000; i++) history = undone(history);
  expect(isBlank(history.content)).toBe(true);
  for (let i = 0; i < 1000; i++) history = redone(history);
  expect(history.content).toEqual(end);
});

test("a proposal accepted is one step: picture, size and strokes come back together", () => {
  const before = painted("ab");
  const after = replaced(before, { picture: "f".repeat(64), width: 128, height: 128, strokes: [], parents: ["f".repeat(64)] });
  expect(after.content).toMatchObject({ width: 128, strokes: [] });
  expect(undone(after).content).toEqual(before.content);
  expect(redone(undone(after)).content).toEqual(after.content);
});

test("what a history can show is found in it, undone or not", () => {
  const history = undone(marked(replaced(painted("ab"), { strokes: [] }), "mask", mark("m")));
  expect([...marksOf(history).keys()].sort()).toEqual(["a", "b", "m"]);
  expect(contentsOf(history)).toHaveLength(3);
});

test.each([
  [4000, 3000, { width: 1024, height: 768 }], [64, 64, { width: 64, height: 64 }], [1024, 32, { width: 1024, height: 32 }],
  [1, 1, null], [10_000, 100, null],
])("%d by %d pixels become %j", (width, height, size) => expect(fitted(width, height)).toEqual(size));
