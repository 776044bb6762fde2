// A file that someone dropped, pasted, chose or photographed, as a PNG that a painting can hold: upright,
// sRGB, 8 bits, without alpha, no larger than a painting. Whatever was changed is said; whatever cannot be
// read is refused with one sentence.
import { t } from "../i18n/index.svelte";
import { surface } from "../canvas/raster";
import { fitted, LARGEST, SMALLEST } from "../document/content";
import { sniff, type Format, type Sniffed } from "./sniff";

const HEAVIEST = 100; // MB
const WIDEST = 32_767; // pixels a side, beyond which browsers give up
const MOST = 120_000_000; // pixels, which are four bytes each when decoded
const READ: readonly Format[] = ["png", "jpeg", "webp", "gif", "bmp", "avif"];

export interface Decoded {
  blob: Blob;
  width: number;
  height: number;
  /** What was changed, a sentence each. */
  notes: string[];
}

/** A file that is no picture which can be used; its message is a sentence. */
export class Unreadable extends Error {
  override name = "Unreadable";
}

/** size: what it is scaled and cropped to; none: its own, if a painting can have that. */
export async function decode(file: Blob, size?: { width: number; height: number }): Promise<Decoded> {
  const name = file instanceof File && file.name ? file.name : t("image.unnamed");
  const head = await checked(file, name);
  const bitmap = await opened(file, name);
  try {
    return await drawn(bitmap, head, name, size);
  } finally {
    bitmap.close();
  }
}

/** What can be told before memory is given to its pixels. */
async function checked(file: Blob, name: string): Promise<Sniffed> {
  if (file.size === 0) throw new Unreadable(t("image.empty", { name }));
  const heavy = file.size / 1e6;
  if (heavy > HEAVIEST) throw new Unreadable(t("image.heavy", { name, size: Math.ceil(heavy), most: HEAVIEST }));
  const head = sniff(new Uint8Array(await file.arrayBuffer()));
  if (head.format === "heic") throw new Unreadable(t("image.heic", { name }));
  if (!READ.includes(head.format)) throw new Unreadable(t("image.format", { name }));
  if (head.truncated) throw new Unreadable(t("image.truncated", { name }));
  if (head.width !== null && head.height !== null) sized(head.width, head.height, name);
  return head;
}

function sized(width: number, height: number, name: string): void {
  if (Math.max(width, height) > WIDEST || width * height > MOST) {
    throw new Unreadable(t("image.large", { name, width, height, most: Math.round(MOST / 1e6) }));
  }
  if (Math.min(width, height) < SMALLEST) {
    throw new Unreadable(t("image.small", { name, width, height, least: SMALLEST }));
  }
}

async function opened(file: Blob, name: string): Promise<ImageBitmap> {
  try {
    return await createImageBitmap(file); // upright by its orientation, in sRGB by its profile
  } catch {
    throw new Unreadable(t("image.broken", { name }));
  }
}

async function drawn(
  bitmap: ImageBitmap, head: Sniffed, name: string, wanted?: { width: number; height: number },
): Promise<Decoded> {
  const { width, height } = bitmap;
  sized(width, height, name);
  const size = wanted ?? fitted(width, height);
  if (!size) throw new Unreadable(t("image.long", { name, width, height, most: LARGEST, least: SMALLEST }));
  const scale = Math.max(size.width / width, size.height / height); // covers; what stands out is cut
  const [canvas, context] = surface(size.width, size.height, { alpha: false });
  context.fillStyle = "#fff";
  context.fillRect(0, 0, size.width, size.height);
  const clear = hasAlpha(bitmap, head.format);
  context.imageSmoothingQuality = "high";
  const [across, down] = [width * scale, height * scale];
  context.drawImage(halved(bitmap, scale), (size.width - across) / 2, (size.height - down) / 2, across, down);
  const notes: string[] = [];
  if (size.width !== width || size.height !== height) {
    notes.push(t("image.scaled", { width, height, to: `${size.width} × ${size.height}` }));
  }
  if (clear) notes.push(t("image.alpha"));
  if (head.depth > 8) notes.push(t("image.deep", { bits: head.depth }));
  return { blob: await written(canvas), ...size, notes };
}

/** Halved until what is left is done well in one go: a canvas looks at few pixels for each that it draws. */
function halved(bitmap: ImageBitmap, scale: number): CanvasImageSource {
  let source: CanvasImageSource = bitmap;
  let [width, height, left] = [bitmap.width, bitmap.height, scale];
  while (left < 0.5) {
    const [canvas, context] = surface(Math.ceil(width / 2), Math.ceil(height / 2));
    context.imageSmoothingQuality = "high";
    context.drawImage(source, 0, 0, canvas.width, canvas.height);
    [source, width, height, left] = [canvas, canvas.width, canvas.height, left * 2];
  }
  return source;
}

function hasAlpha(bitmap: ImageBitmap, format: Format): boolean {
  if (format === "jpeg" || format === "bmp") return false;
  const side = 256; // looked at from afar: a clear part too small for this changes nothing that is seen
  const [, context] = surface(side, side, { willReadFrequently: true });
  context.drawImage(bitmap, 0, 0, side, side);
  const { data } = context.getImageData(0, 0, side, side);
  for (let i = 3; i < data.length; i += 4) if ((data[i] ?? 255) < 254) return true;
  return false;
}

/** PNG of a canvas. */
export function written(canvas: HTMLCanvasElement): Promise<Blob> {
  return new Promise((resolve, reject) => {
    canvas.toBlob((blob) => (blob ? resolve(blob) : reject(new Unreadable(t("image.memory")))), "image/png");
  });
}
