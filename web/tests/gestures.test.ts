import { expect, test } from "vitest";
import { Gestures, type Contact, type Device } from "../src/canvas/gestures";

function contact(id: number, device: Device, x: number, y: number, more: Partial<Contact> = {}): Contact {
  return { id, device, x, y, pressure: 0.5, buttons: 1, time: 0, moves: false, picks: false, sizes: false, ...more };
}

const kinds = (acts: { kind: string }[]) => acts.map(({ kind }) => kind);

test("a mouse paints", () => {
  const gestures = new Gestures();
  expect(kinds(gestures.down(contact(1, "mouse", 0, 0)))).toEqual(["begin"]);
  expect(kinds(gestures.move(contact(1, "mouse", 5, 5)))).toEqual(["extend"]);
  expect(kinds(gestures.up(contact(1, "mouse", 5, 5, { buttons: 0 })))).toEqual(["end"]);
  expect(kinds(gestures.move(contact(1, "mouse", 9, 9, { buttons: 0 })))).toEqual([]);
});

test("two fingers navigate, and what the first one began is dropped", () => {
  const gestures = new Gestures();
  expect(kinds(gestures.down(contact(1, "touch", 10, 10)))).toEqual(["begin"]);
  expect(kinds(gestures.move(contact(1, "touch", 14, 10, { time: 60 })))).toEqual(["extend"]);
  expect(kinds(gestures.down(contact(2, "touch", 90, 10, { time: 90 })))).toEqual(["drop"]);
  expect(gestures.move(contact(2, "touch", 120, 10, { time: 120 }))).toEqual([
    { kind: "pinch", from: [expect.objectContaining({ x: 90 }), expect.objectContaining({ x: 14 })],
      to: [expect.objectContaining({ x: 120 }), expect.objectContaining({ x: 14 })] },
  ]);
});

test("a finger that is left of two moves the view, and leaves no dot", () => {
  const gestures = new Gestures();
  gestures.down(contact(1, "touch", 10, 10));
  gestures.down(contact(2, "touch", 90, 10, { time: 20 }));
  expect(kinds(gestures.up(contact(2, "touch", 90, 10)))).toEqual([]);
  expect(kinds(gestures.move(contact(1, "touch", 30, 10)))).toEqual(["pan"]);
  expect(kinds(gestures.up(contact(1, "touch", 30, 10)))).toEqual(["rest"]);
  expect(kinds(gestures.down(contact(3, "touch", 10, 10)))).toEqual(["begin"]);
});

test("a long stroke stays when a second finger comes late", () => {
  const gestures = new Gestures();
  gestures.down(contact(1, "touch", 10, 10));
  gestures.move(contact(1, "touch", 80, 10, { time: 400 }));
  expect(kinds(gestures.down(contact(2, "touch", 90, 90, { time: 500 })))).toEqual(["end"]);
});

test("a finger that rests long before the second comes has painted nothing", () => {
  const gestures = new Gestures();
  gestures.down(contact(1, "touch", 10, 10));
  expect(kinds(gestures.down(contact(2, "touch", 90, 90, { time: 2000 })))).toEqual(["drop"]);
});

test("once a pen was seen, fingers only navigate", () => {
  const gestures = new Gestures();
  gestures.down(contact(1, "pen", 0, 0));
  expect(kinds(gestures.down(contact(2, "touch", 50, 50)))).toEqual([]); // a palm
  expect(kinds(gestures.move(contact(2, "touch", 55, 50)))).toEqual([]);
  expect(kinds(gestures.up(contact(2, "touch", 55, 50)))).toEqual([]);
  expect(kinds(gestures.up(contact(1, "pen", 1, 1)))).toEqual(["end"]);
  expect(kinds(gestures.down(contact(3, "touch", 50, 50)))).toEqual([]);
  expect(kinds(gestures.move(contact(3, "touch", 60, 50)))).toEqual(["pan"]);
  expect(kinds(gestures.up(contact(3, "touch", 60, 50)))).toEqual(["rest"]);
});

test("a pen takes over from resting fingers", () => {
  const gestures = new Gestures();
  gestures.down(contact(1, "pen", 0, 0));
  gestures.up(contact(1, "pen", 0, 0));
  gestures.down(contact(2, "touch", 50, 50));
  expect(kinds(gestures.down(contact(1, "pen", 5, 5)))).toEqual(["begin"]);
});

test("a pointer that is taken away keeps its stroke", () => {
  const gestures = new Gestures();
  gestures.down(contact(1, "touch", 0, 0));
  gestures.move(contact(1, "touch", 30, 0));
  expect(kinds(gestures.cancel(contact(1, "touch", 30, 0)))).toEqual(["end"]);
});

test.each<[Partial<Contact>, string[]]>([
  [{ buttons: 4 }, []], [{ moves: true }, []], [{ buttons: 2 }, ["pick"]], [{ picks: true }, ["pick"]],
  [{ sizes: true }, ["size"]], [{ buttons: 32 }, ["begin"]], [{ buttons: 0 }, []],
])("%j begins %j", (more, begun) => {
  expect(kinds(new Gestures().down(contact(1, "pen", 0, 0, more)))).toEqual(begun);
});

test("a pen's other end erases", () => {
  expect(new Gestures().down(contact(1, "pen", 0, 0, { buttons: 32 }))).toMatchObject([{ kind: "begin", erase: true }]);
});

test("a stroke that is given up is dropped, and a finger still down paints no other", () => {
  const gestures = new Gestures();
  gestures.down(contact(1, "touch", 0, 0));
  expect(kinds(gestures.abandon())).toEqual(["drop"]);
  expect(kinds(gestures.move(contact(1, "touch", 9, 0)))).toEqual(["pan"]);
  gestures.up(contact(1, "touch", 9, 0));
  expect(kinds(gestures.down(contact(1, "touch", 0, 0)))).toEqual(["begin"]);
});
