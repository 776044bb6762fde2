// Flood fill: the area around a point whose colours are near to the point's.

/** data: RGBA by rows. blocked: pixels (rows of the same width) that end the area whatever their colour. */
export interface Ground {
  readonly width: number;
  readonly height: number;
  readonly data: Uint8ClampedArray | Uint8Array;
  readonly blocked?: (pixel: number) => boolean;
}

/** Spans (y, first x, x behind the last) of the area; none where the point is outside or blocked.
 * tolerance: largest difference of a channel, 0 to 255. */
export function flood(ground: Ground, x: number, y: number, tolerance: number): number[] {
  const { width, height, data, blocked } = ground;
  if (x < 0 || y < 0 || x >= width || y >= height) return [];
  const seed = (y * width + x) * 4;
  const colour = [data[seed] ?? 0, data[seed + 1] ?? 0, data[seed + 2] ?? 0, data[seed + 3] ?? 0] as const;
  const taken = new Uint8Array(width * height);

  const open = (pixel: number): boolean => {
    if (taken[pixel] || blocked?.(pixel)) return false;
    for (let channel = 0; channel < 4; channel++) {
      if (Math.abs((data[pixel * 4 + channel] ?? 0) - (colour[channel] ?? 0)) > tolerance) return false;
    }
    return true;
  };

  const waiting = [y * width + x];
  for (let start = waiting.pop(); start !== undefined; start = waiting.pop()) {
    if (!open(start)) continue;
    const row = Math.floor(start / width) * width;
    let [first, end] = [start, start + 1];
    while (first > row && open(first - 1)) first--;
    while (end < row + width && open(end)) end++;
    taken.fill(1, first, end);
    for (const other of [row - width, row + width]) {
      if (other < 0 || other >= width * height) continue;
      for (let column = first - row; column < end - row; column++) {
        const pixel = other + column;
        if (open(pixel) && (column === first - row || !open(pixel - 1))) waiting.push(pixel);
      }
    }
  }
  return spansOf(taken, width, height);
}

export function spansOf(taken: Uint8Array, width: number, height: number): number[] {
  const spans: number[] = [];
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      if (!taken[y * width + x]) continue;
      const first = x;
      while (x < width && taken[y * width + x]) x++;
      spans.push(y, first, x);
    }
  }
  return spans;
}
