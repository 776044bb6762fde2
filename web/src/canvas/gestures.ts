// What pointers mean: which one paints, which ones navigate. Knows no page: it is told of events and
// answers with acts.
//
// A first finger paints at once; a second one that comes soon takes that back and navigates, until
// all are lifted. Once a pen was seen, fingers only navigate.
import type { Point } from "./view";

export type Device = "mouse" | "pen" | "touch";

/** An event of a pointer; x, y in pixels of the screen. */
export interface Contact extends Point {
  id: number;
  device: Device;
  pressure: number;
  /** Which buttons are down, as in PointerEvent.buttons. */
  buttons: number;
  /** Milliseconds. */
  time: number;
  /** A key or the hand tool says that this is to move the view. */
  moves: boolean;
  /** A key or the pipette says that this is to take a colour. */
  picks: boolean;
  /** A key says that this is to change the brush's size. */
  sizes: boolean;
}

export type Act =
  | { kind: "begin"; contact: Contact; erase: boolean }
  | { kind: "extend"; contact: Contact }
  | { kind: "end" }
  | { kind: "drop" }
  | { kind: "pick"; contact: Contact }
  | { kind: "size"; by: number; at: Point }
  | { kind: "sized" }
  | { kind: "pan"; dx: number; dy: number }
  | { kind: "pinch"; from: [Point, Point]; to: [Point, Point] }
  | { kind: "rest"; at: Point };

const LEFT = 1;
const RIGHT = 2;
const MIDDLE = 4;
const ERASER = 32;
const SOON = 300; // milliseconds in which a second finger says that the first was no stroke
const NEAR = 12; // pixels that the first may have gone in a longer time

type State =
  | { kind: "idle" }
  | { kind: "painting"; id: number; device: Device; begun: number; start: Point; far: boolean }
  | { kind: "picking"; id: number }
  | { kind: "sizing"; id: number; last: Point; start: Point }
  | { kind: "moving"; id: number; last: Point }
  | { kind: "navigating" };

export class Gestures {
  penSeen = false;
  #state: State = { kind: "idle" };
  readonly #fingers = new Map<number, Point>();

  get painting(): boolean {
    return this.#state.kind === "painting";
  }

  down(contact: Contact): Act[] {
    if (contact.device === "pen") this.penSeen = true;
    if (contact.device === "touch") return this.#finger(contact);
    if (this.#state.kind === "navigating" && contact.device === "pen") this.#state = { kind: "idle" };
    if (this.#state.kind !== "idle") return [];
    return this.#first(contact);
  }

  move(contact: Contact): Act[] {
    const state = this.#state;
    if (state.kind === "navigating") return this.#navigate(contact);
    if (this.#fingers.has(contact.id)) this.#fingers.set(contact.id, contact);
    if (state.kind === "idle" || state.id !== contact.id) return [];
    if (state.kind === "painting") {
      state.far ||= distance(state.start, contact) > NEAR;
      return [{ kind: "extend", contact }];
    }
    if (state.kind === "picking") return [{ kind: "pick", contact }];
    const [dx, dy] = [contact.x - state.last.x, contact.y - state.last.y];
    state.last = contact;
    if (state.kind === "sizing") return [{ kind: "size", by: dx, at: state.start }];
    return [{ kind: "pan", dx, dy }];
  }

  up(contact: Contact): Act[] {
    const state = this.#state;
    if (state.kind === "navigating") return this.#lift(contact);
    this.#fingers.delete(contact.id);
    if (state.kind === "idle" || state.id !== contact.id) return [];
    this.#state = { kind: "idle" };
    if (state.kind === "painting") return [{ kind: "end" }];
    if (state.kind === "sizing") return [{ kind: "sized" }];
    return state.kind === "moving" ? [{ kind: "rest", at: contact }] : [];
  }

  /** The browser took the pointer away: what was painted stays. */
  cancel(contact: Contact): Act[] {
    return this.up(contact);
  }

  /** Given up by a key. */
  abandon(): Act[] {
    if (this.#state.kind !== "painting") return [];
    this.#state = this.#fingers.size ? { kind: "navigating" } : { kind: "idle" };
    return [{ kind: "drop" }];
  }

  #first(contact: Contact): Act[] {
    const { id, buttons } = contact;
    if (buttons & MIDDLE || contact.moves) {
      this.#state = { kind: "moving", id, last: contact };
      return [];
    }
    if (buttons & RIGHT || contact.picks) {
      this.#state = { kind: "picking", id };
      return [{ kind: "pick", contact }];
    }
    if (contact.sizes) {
      this.#state = { kind: "sizing", id, last: contact, start: contact };
      return [{ kind: "size", by: 0, at: contact }];
    }
    if (!(buttons & (LEFT | ERASER))) return [];
    this.#state = {
      kind: "painting", id, device: contact.device, begun: contact.time, start: contact, far: false,
    };
    return [{ kind: "begin", contact, erase: (buttons & ERASER) !== 0 }];
  }

  #finger(contact: Contact): Act[] {
    const state = this.#state;
    if (state.kind === "painting" && state.device !== "touch") return []; // a palm beside the pen
    this.#fingers.set(contact.id, contact);
    if (state.kind === "navigating") return [];
    if (this.#fingers.size === 1) {
      if (!this.penSeen) return this.#first(contact);
      this.#state = { kind: "navigating" };
      return [];
    }
    this.#state = { kind: "navigating" };
    if (state.kind !== "painting") return [];
    const short = contact.time - state.begun < SOON || !state.far;
    return [{ kind: short ? "drop" : "end" }];
  }

  #navigate(contact: Contact): Act[] {
    const before = this.#fingers.get(contact.id);
    if (!before) return [];
    const [first, second] = [...this.#fingers.keys()];
    this.#fingers.set(contact.id, contact);
    if (second === undefined) return [{ kind: "pan", dx: contact.x - before.x, dy: contact.y - before.y }];
    if (contact.id !== first && contact.id !== second) return [];
    const other = this.#fingers.get(contact.id === first ? second : (first ?? second));
    if (!other) return [];
    return [{ kind: "pinch", from: [before, other], to: [contact, other] }];
  }

  #lift(contact: Contact): Act[] {
    if (!this.#fingers.delete(contact.id) || this.#fingers.size) return [];
    this.#state = { kind: "idle" };
    return [{ kind: "rest", at: contact }];
  }
}

function distance(a: Point, b: Point): number {
  return Math.hypot(a.x - b.x, a.y - b.y);
}
