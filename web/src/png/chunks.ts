// Texts in a PNG file: tEXt, zTXt and iTXt chunks, wherever they stand.
import { Unzlib } from "fflate";

const SIGNATURE = [0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a];
const LONGEST = 16 << 20; // bytes of a text once it is unpacked
const KEYWORD = 79; // bytes at most
const PIECE = 4096; // bytes that are unpacked at once, to a thousand times as many at most

export function isPng(bytes: Uint8Array): boolean {
  return SIGNATURE.every((byte, k) => bytes[k] === byte);
}

/** Text by keyword; of two with one keyword the first. What is broken is left out. */
export function textsOf(bytes: Uint8Array): Map<string, string> {
  const found = new Map<string, string>();
  if (!isPng(bytes)) return found;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let at = SIGNATURE.length;
  while (at + 12 <= bytes.length) {
    const length = view.getUint32(at);
    const end = at + 8 + length;
    if (end + 4 > bytes.length) break; // cut off
    const kind = latin(bytes.subarray(at + 4, at + 8));
    const text = read(kind, bytes.subarray(at + 8, end));
    if (text && !found.has(text[0])) found.set(...text);
    if (kind === "IEND") break;
    at = end + 4;
  }
  return found;
}

function read(kind: string, data: Uint8Array): [string, string] | null {
  if (kind !== "tEXt" && kind !== "zTXt" && kind !== "iTXt") return null;
  const cut = data.indexOf(0);
  if (cut < 1 || cut > KEYWORD) return null;
  const keyword = latin(data.subarray(0, cut));
  const rest = data.subarray(cut + 1);
  if (kind === "tEXt") return [keyword, either(rest)];
  if (kind === "zTXt") {
    const text = unpacked(rest.subarray(1));
    return text && [keyword, either(text)];
  }
  const language = rest.indexOf(0, 2);
  const translated = language < 0 ? -1 : rest.indexOf(0, language + 1);
  if (translated < 0) return null;
  const body = rest.subarray(translated + 1);
  const text = rest[0] ? unpacked(body) : body;
  return text && [keyword, new TextDecoder().decode(text)];
}

/** Unpacked piece by piece, so that what is too long is known before it is whole. */
function unpacked(data: Uint8Array): Uint8Array | null {
  const parts: Uint8Array[] = [];
  let size = 0;
  const reader = new Unzlib((part) => {
    size += part.length;
    if (size > LONGEST) throw new Error("too long");
    parts.push(part);
  });
  try {
    for (let at = 0; at < data.length; at += PIECE) {
      reader.push(data.subarray(at, at + PIECE), at + PIECE >= data.length);
    }
  } catch {
    return null;
  }
  const whole = new Uint8Array(size);
  parts.reduce((at, part) => (whole.set(part, at), at + part.length), 0);
  return whole;
}

function latin(data: Uint8Array): string {
  return Array.from(data, (byte) => String.fromCharCode(byte)).join("");
}

/** tEXt is Latin-1, in which most programs write UTF-8 all the same. */
function either(data: Uint8Array): string {
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(data);
  } catch {
    return new TextDecoder("latin1").decode(data);
  }
}
