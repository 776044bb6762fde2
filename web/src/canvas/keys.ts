// The canvas's shortcuts.
import { documents } from "../document/documents.svelte";
import type { Key } from "../i18n/index.svelte";
import { route } from "../shell/route.svelte";
import type { Shortcut } from "../shell/shortcuts.svelte";
import { tools, type Tool } from "./tools.svelte";
import type { Viewport } from "./viewport.svelte";

export interface Dialogs {
  create: () => void;
  all: () => void;
}

export function keysOf(viewport: Viewport, dialogs: Dialogs): Shortcut[] {
  const when = () => route.name === "paint";
  const key = (keys: string, label: Key, run: () => void): Shortcut => ({ keys, label, run, when });
  const tool = (keys: string, name: Tool, label: Key) => key(keys, label, () => (tools.tool = name));
  return [
    tool("b", "brush", "tool.brush"),
    tool("l", "line", "tool.line"),
    tool("e", "eraser", "tool.eraser"),
    tool("g", "fill", "tool.fill"),
    tool("i", "pipette", "tool.pipette"),
    tool("h", "hand", "tool.hand"),
    key("m", "toolbar.mask", () => (tools.layer = tools.layer === "mask" ? "strokes" : "mask")),
    key("[", "brush.smaller", () => tools.step(-1)),
    key("]", "brush.larger", () => tools.step(1)),
    key("mod+z", "canvas.undo", () => documents.current?.undo()),
    key("shift+mod+z", "canvas.redo", () => documents.current?.redo()),
    key("mod+y", "canvas.redo", () => documents.current?.redo()),
    key("+", "view.in", () => viewport.zoom(1.5)),
    key("=", "view.in", () => viewport.zoom(1.5)),
    key("-", "view.out", () => viewport.zoom(1 / 1.5)),
    key("0", "view.fit", () => viewport.fit()),
    key("r", "view.turn", () => viewport.turn(15)),
    key("shift+r", "view.turn.back", () => viewport.turn(-15)),
    key("delete", "layer.clear.active", () => documents.current?.clear(tools.layer)),
    key("shift+n", "document.new", dialogs.create),
    key("shift+o", "document.all", dialogs.all),
  ];
}
