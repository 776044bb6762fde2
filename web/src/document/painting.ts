// A painting as it is kept and exported: what it shows, how, what its runs need, and its history.
import { newId } from "../api/hash";
import { freshSettings, type Settings } from "../run/settings";
import { blankContent, freshShown, type LayerKind, type Shown } from "./content";
import { begun, type History } from "./history";

export interface Painting {
  id: string;
  name: string;
  /** Milliseconds since 1970. */
  changed: number;
  history: History;
  shown: Record<LayerKind, Shown>;
  settings: Settings;
  /** Jobs whose pictures wait to be accepted or discarded. */
  runs: string[];
}

export function freshPainting(name: string, width: number, height: number, now = Date.now()): Painting {
  return {
    id: newId(), name, changed: now, history: begun(blankContent(width, height)), shown: freshShown(),
    settings: freshSettings(), runs: [],
  };
}
