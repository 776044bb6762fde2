// Keys of runs and proposals.
import { shortcuts } from "../shell/shortcuts.svelte";
import { overlay } from "./overlay.svelte";
import { runs } from "./runs.svelte";

export function registerKeys(): () => void {
  const proposed = () => runs.proposal !== null && runs.current === null;
  return shortcuts.register(
    { keys: "mod+enter", label: "keys.run", run: () => void runs.run(), typing: true },
    { keys: "escape", label: "keys.stop", run: () => void runs.stop(), when: () => runs.busy },
    { keys: "enter", label: "keys.accept", run: () => void runs.accept(), when: proposed },
    { keys: "delete", label: "keys.discard", run: () => runs.discard(), when: proposed },
    { keys: "n", label: "keys.next", run: () => runs.next(), when: proposed },
    { keys: "shift+n", label: "keys.previous", run: () => runs.previous(), when: proposed },
    {
      keys: "c", label: "keys.compare", when: proposed,
      run: () => (overlay.compare = (overlay.compare ?? 1) > 0 ? 0 : 1),
    },
  );
}
