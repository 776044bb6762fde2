import { describe, expect, test } from "vitest";
import { sniff } from "../src/images/sniff";

const text = (value: string) => [...value].map((sign) => sign.charCodeAt(0));
const u16 = (value: number) => [value >> 8, value & 255];
const u32 = (value: number) => [value >>> 24, (value >> 16) & 255, (value >> 8) & 255, value & 255];

function png(width: number, height: number, depth = 8): number[] {
  const chunk = (name: string, data: number[]) => [...u32(data.length), ...text(name), ...data, 0, 0, 0, 0];
  return [137, 80, 78, 71, 13, 10, 26, 10, ...chunk("IHDR", [...u32(width), ...u32(height), depth, 2, 0, 0, 0]), ...chunk("IDAT", [1, 2, 3]), ...chunk("IEND", [])];
}

function jpeg(width: number, height: number, orientation: number): number[] {
  const tiff = [0x4d, 0x4d, 0, 42, ...u32(8), ...u16(1), ...u16(0x0112), ...u16(3), ...u32(1), ...u16(orientation), 0, 0, ...u32(0)];
  const exif = [...text("Exif"), 0, 0, ...tiff];
  return [
    0xff, 0xd8, 0xff, 0xe1, ...u16(exif.length + 2), ...exif, 0xff, 0xc0, ...u16(11), 8, ...u16(height), ...u16(width), 1, 1, 0x11, 0,
    0xff, 0xda, ...u16(8), 1, 1, 0, 0, 63, 0, 1, 2, 3, 0xff, 0, 4, 0xff, 0xd9,
  ];
}

const ftyp = (brands: string) => [...u32(24), ...text(`ftyp${brands}`), 0, 0, 0, 0];

describe("first bytes", () => {
  test("say a PNG's size and depth", () => {
    expect(sniff(new Uint8Array(png(640, 480, 16)))).toMatchObject({ format: "png", width: 640, height: 480, depth: 16, truncated: false });
  });

  test("say a JPEG's size and orientation", () => {
    expect(sniff(new Uint8Array(jpeg(4000, 3000, 6)))).toMatchObject({ format: "jpeg", width: 4000, height: 3000, orientation: 6, truncated: false });
  });

  test.each([["heic", "heicmif1heic"], ["heic", "mif1miafheix"], ["avif", "avifmif1miaf"], ["unknown", "isommp42    "]])("tell %s of %s", (format, brands) => {
    expect(sniff(new Uint8Array(ftyp(brands))).format).toBe(format);
  });

  test.each([
    ["tiff", [0x49, 0x49, 0x2a, 0, 1, 2]], ["svg", text("<?xml version='1.0'?><svg/>")], ["gif", [...text("GIF89a"), 64, 0, 32, 0, 0x3b]],
    ["unknown", text("hello")], ["unknown", []],
  ])("tell %s", (format, bytes) => expect(sniff(new Uint8Array(bytes)).format).toBe(format));

  test("say of WebP what its three kinds say", () => {
    const webp = (kind: string, data: number[]) => [...text("RIFF"), data.length + 12, 0, 0, 0, ...text(`WEBP${kind}`), data.length, 0, 0, 0, ...data];
    expect(sniff(new Uint8Array(webp("VP8X", [0, 0, 0, 0, 63, 0, 0, 31, 0, 0])))).toMatchObject({ width: 64, height: 32, truncated: false });
    expect(sniff(new Uint8Array(webp("VP8L", [0x2f, 63, 0xc0, 7, 0, 0, 0, 0, 0, 0])))).toMatchObject({ width: 64, height: 32 });
    expect(sniff(new Uint8Array(webp("VP8 ", [0, 0, 0, 0x9d, 1, 0x2a, 64, 0, 32, 0])))).toMatchObject({ width: 64, height: 32 });
  });

  test("of a file cut short at any place say so, and never fail", () => {
    for (const whole of [png(64, 64), jpeg(64, 64, 1)]) {
      for (let end = 8; end < whole.length - 1; end++) {
        const found = sniff(new Uint8Array(whole.slice(0, end)));
        expect(found.truncated, `${end} of ${whole.length}`).toBe(true);
      }
    }
  });

  test("of any bytes never fail", () => {
    for (const start of [png(64, 64), jpeg(64, 64, 1), ftyp("heic"), text("RIFF0000WEBPVP8X"), text("GIF89a"), text("BM")]) {
      for (let seed = 1; seed < 200; seed++) {
        const bytes = Uint8Array.from({ length: 64 + (seed % 40) }, (_, i) => (i * seed * 2654435761) >>> 24);
        bytes.set(start.slice(0, 4 + (seed % 30)).slice(0, bytes.length));
        expect(() => sniff(bytes)).not.toThrow();
      }
    }
  });
});
