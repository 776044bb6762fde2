// What a file is, by its first bytes: a kind, a size, whether it is whole. Decoders say only that they failed.

export type Format = "png" | "jpeg" | "webp" | "gif" | "bmp" | "avif" | "heic" | "tiff" | "svg" | "unknown";

export interface Sniffed {
  format: Format;
  /** Pixels before any turning; none where it is not known without decoding. */
  width: number | null;
  height: number | null;
  /** Bits of a channel. */
  depth: number;
  /** The file ends before its picture does. */
  truncated: boolean;
  orientation: number;
}

const EMPTY: Sniffed = { format: "unknown", width: null, height: null, depth: 8, truncated: false, orientation: 1 };

export function sniff(bytes: Uint8Array): Sniffed {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (begins(bytes, [0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a])) return png(bytes, view);
  if (begins(bytes, [0xff, 0xd8, 0xff])) return jpeg(bytes, view);
  if (text(bytes, 0, 4) === "RIFF" && text(bytes, 8, 12) === "WEBP") return webp(bytes, view);
  if (text(bytes, 0, 4) === "GIF8" && bytes.length >= 10) {
    const truncated = bytes.lastIndexOf(0x3b) < 0;
    return { ...EMPTY, format: "gif", width: view.getUint16(6, true), height: view.getUint16(8, true), truncated };
  }
  if (text(bytes, 0, 2) === "BM" && bytes.length >= 26) {
    const truncated = bytes.length < view.getUint32(2, true);
    const [width, height] = [view.getInt32(18, true), Math.abs(view.getInt32(22, true))];
    return { ...EMPTY, format: "bmp", width, height, truncated };
  }
  if (text(bytes, 4, 8) === "ftyp") return { ...EMPTY, format: brand(text(bytes, 8, 32)) };
  if (begins(bytes, [0x49, 0x49, 0x2a, 0]) || begins(bytes, [0x4d, 0x4d, 0, 0x2a])) return { ...EMPTY, format: "tiff" };
  if (/^\s*(<\?xml|<svg|<!DOCTYPE svg)/i.test(text(bytes, 0, 256))) return { ...EMPTY, format: "svg" };
  return EMPTY;
}

function begins(bytes: Uint8Array, start: readonly number[]): boolean {
  return start.every((byte, i) => bytes[i] === byte);
}

function text(bytes: Uint8Array, from: number, to: number): string {
  return String.fromCharCode(...bytes.subarray(from, to));
}

/** Of ISO media: what its list of brands says. */
function brand(brands: string): Format {
  if (/avif|avis/.test(brands)) return "avif";
  return /heic|heix|heim|heis|hevc|hevx|mif1|msf1/.test(brands) ? "heic" : "unknown";
}

function png(bytes: Uint8Array, view: DataView): Sniffed {
  if (bytes.length < 33) return { ...EMPTY, format: "png", truncated: true };
  const size = { width: view.getUint32(16), height: view.getUint32(20), depth: bytes[24] ?? 8 };
  let at = 8;
  while (at + 12 <= bytes.length) {
    const end = at + 12 + view.getUint32(at);
    if (text(bytes, at + 4, at + 8) === "IEND") return { ...EMPTY, format: "png", ...size };
    at = end;
  }
  return { ...EMPTY, format: "png", ...size, truncated: true };
}

function jpeg(bytes: Uint8Array, view: DataView): Sniffed {
  const found: Sniffed = { ...EMPTY, format: "jpeg", truncated: true };
  let at = 2;
  while (at + 4 <= bytes.length) {
    if (bytes[at] !== 0xff) return found;
    const marker = bytes[at + 1] ?? 0;
    if (marker === 0xff) { at++; continue; }
    const length = view.getUint16(at + 2);
    const frame = marker >= 0xc0 && marker <= 0xcf && ![0xc4, 0xc8, 0xcc].includes(marker);
    if (frame && at + 9 <= bytes.length) {
      found.depth = bytes[at + 4] ?? 8;
      found.height = view.getUint16(at + 5);
      found.width = view.getUint16(at + 7);
    }
    if (marker === 0xe1 && text(bytes, at + 4, at + 8) === "Exif") {
      found.orientation = orientation(bytes.subarray(at + 10, at + 2 + length));
    }
    at += 2 + length;
    if (marker === 0xda) break;
  }
  // Within a scan FF D9 is the end alone; what a camera puts behind it does not matter.
  for (let i = at; i + 1 < bytes.length; i++) {
    if (bytes[i] === 0xff && bytes[i + 1] === 0xd9) return { ...found, truncated: false };
  }
  return found;
}

/** Tag 0x0112 of the first directory; 1 where it is missing. */
function orientation(tiff: Uint8Array): number {
  if (tiff.length < 8) return 1;
  const view = new DataView(tiff.buffer, tiff.byteOffset, tiff.byteLength);
  const little = tiff[0] === 0x49;
  const start = view.getUint32(4, little);
  if (start + 2 > tiff.length) return 1;
  const count = view.getUint16(start, little);
  for (let i = 0; i < count; i++) {
    const entry = start + 2 + i * 12;
    if (entry + 12 > tiff.length) break;
    if (view.getUint16(entry, little) === 0x0112) return view.getUint16(entry + 8, little);
  }
  return 1;
}

function webp(bytes: Uint8Array, view: DataView): Sniffed {
  const found: Sniffed = { ...EMPTY, format: "webp" };
  if (bytes.length < 30) return { ...found, truncated: true };
  found.truncated = bytes.length < view.getUint32(4, true) + 8;
  const kind = text(bytes, 12, 16);
  const three = (at: number) => (bytes[at] ?? 0) | ((bytes[at + 1] ?? 0) << 8) | ((bytes[at + 2] ?? 0) << 16);
  if (kind === "VP8X") return { ...found, width: three(24) + 1, height: three(27) + 1 };
  if (kind === "VP8 ") return { ...found, width: view.getUint16(26, true) & 0x3fff, height: view.getUint16(28, true) & 0x3fff };
  if (kind === "VP8L") {
    const bits = view.getUint32(21, true);
    return { ...found, width: (bits & 0x3fff) + 1, height: ((bits >> 14) & 0x3fff) + 1 };
  }
  return found;
}
