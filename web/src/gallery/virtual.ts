// Which tiles of a long grid are seen: a grid of thousands has elements for a screen or two alone.

export interface Grid {
  columns: number;
  /** Width and height of a tile in pixels. */
  side: number;
  gap: number;
  /** Height of all rows. */
  height: number;
  count: number;
}

export interface Span {
  first: number;
  /** One after the last. */
  end: number;
  /** Pixels above the first row that is there. */
  above: number;
}

const FEWEST = 3; // columns, on the narrowest phone

/** Square tiles of about the wanted side that fill the width. */
export function grid(width: number, count: number, wanted: number, gap: number): Grid {
  const columns = Math.max(FEWEST, Math.floor((width + gap) / (wanted + gap)));
  const side = Math.max(1, (width - gap * (columns - 1)) / columns);
  const rows = Math.ceil(count / columns);
  return { columns, side, gap, count, height: rows ? rows * (side + gap) - gap : 0 };
}

/** The tiles within the window and `more` rows around it. */
export function span(of: Grid, top: number, height: number, more = 2): Span {
  const row = of.side + of.gap;
  const rows = Math.ceil(of.count / of.columns);
  const first = Math.max(0, Math.min(rows, Math.floor(top / row) - more));
  const end = Math.max(first, Math.min(rows, Math.ceil((top + height) / row) + more));
  return { first: first * of.columns, end: Math.min(of.count, end * of.columns), above: first * row };
}

/** Where the scroll must be for a tile to be seen whole; null where it is. */
export function revealed(of: Grid, place: number, top: number, height: number): number | null {
  const above = Math.floor(place / of.columns) * (of.side + of.gap);
  if (above < top) return above;
  if (above + of.side > top + height) return above + of.side - height;
  return null;
}

/** The tile that an arrow key leads to. */
export function moved(of: Grid, place: number, key: string): number {
  const steps: Record<string, number> = {
    ArrowLeft: -1, ArrowRight: 1, ArrowUp: -of.columns, ArrowDown: of.columns,
    Home: -place, End: of.count - 1 - place,
  };
  const there = place + (steps[key] ?? 0);
  return there < 0 || there >= of.count ? place : there;
}
