// A lineage as a drawing: generations from left to right, each picture once, lines between them.

export interface Branch {
  source: string;
  made: string;
  role: string;
}

export interface Knot {
  id: string;
  /** How many steps after the earliest. */
  generation: number;
  /** Place from the top, in tiles; may be between two. */
  row: number;
}

export interface Drawing {
  knots: Knot[];
  branches: Branch[];
  generations: number;
  rows: number;
}

const SWEEPS = 6; // of pulling pictures towards their relatives

/** Lay out pictures and the steps between them; what leads back to itself is left out. */
export function drawing(ids: readonly string[], steps: readonly Branch[]): Drawing {
  const known = new Set(ids);
  const branches = steps.filter((s) => s.source !== s.made && known.has(s.source) && known.has(s.made));
  const generation = generations(ids, branches);
  const columns: string[][] = [];
  for (const id of ids) (columns[generation.get(id) ?? 0] ??= []).push(id);
  const filled = Array.from(columns, (column) => column ?? []);
  const row = rowsOf(filled, branches);
  const lowest = Math.min(0, ...row.values());
  const knots = ids.map((id) => ({
    id, generation: generation.get(id) ?? 0, row: (row.get(id) ?? 0) - lowest,
  }));
  const rows = knots.length ? Math.max(...knots.map((knot) => knot.row)) + 1 : 0;
  return { knots, branches, generations: filled.length, rows };
}

/** The longest way to each picture from one that came from nowhere. */
function generations(ids: readonly string[], branches: readonly Branch[]): Map<string, number> {
  const sources = new Map<string, string[]>();
  for (const { source, made } of branches) sources.set(made, [...(sources.get(made) ?? []), source]);
  const found = new Map<string, number>();
  const asked = new Set<string>();
  const depth = (id: string): number => {
    const known = found.get(id);
    if (known !== undefined) return known;
    if (asked.has(id)) return -1; // a circle, which copies of one picture can make
    asked.add(id);
    const value = Math.max(-1, ...(sources.get(id) ?? []).map(depth)) + 1;
    found.set(id, value);
    return value;
  };
  ids.forEach(depth);
  return found;
}

function rowsOf(columns: readonly string[][], branches: readonly Branch[]): Map<string, number> {
  const row = new Map<string, number>();
  for (const column of columns) column.forEach((id, place) => row.set(id, place - (column.length - 1) / 2));
  const near = new Map<string, string[]>();
  for (const { source, made } of branches) {
    near.set(source, [...(near.get(source) ?? []), made]);
    near.set(made, [...(near.get(made) ?? []), source]);
  }
  for (let sweep = 0; sweep < SWEEPS; sweep++) {
    const order = sweep % 2 ? [...columns].reverse() : columns;
    for (const column of order) {
      const wanted = column.map((id) => ({ id, at: mean(near.get(id) ?? [], row) ?? row.get(id) ?? 0 }));
      apart(wanted).forEach(({ id, at }) => row.set(id, at));
    }
  }
  return row;
}

function mean(ids: readonly string[], row: ReadonlyMap<string, number>): number | null {
  if (!ids.length) return null;
  return ids.reduce((sum, id) => sum + (row.get(id) ?? 0), 0) / ids.length;
}

/** Where they want to be, a row apart at least, and on the whole not moved. */
function apart(wanted: { id: string; at: number }[]): { id: string; at: number }[] {
  const order = [...wanted].sort((a, b) => a.at - b.at);
  let last = -Infinity;
  const placed = order.map(({ id, at }) => {
    last = Math.max(at, last + 1);
    return { id, at: last };
  });
  const shift = placed.reduce((sum, { at }, k) => sum + at - (order[k]?.at ?? at), 0) / (placed.length || 1);
  return placed.map(({ id, at }) => ({ id, at: at - shift }));
}
