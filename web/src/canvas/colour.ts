// Colours: hex, hue-saturation-value for the picker, OKLab for distances that the eye agrees with.

export type Triple = readonly [number, number, number];

export const HEX = /^#[0-9a-f]{6}$/;

/** Channels 0 to 255 of "#rrggbb". */
export function parse(hex: string): Triple {
  const value = Number.parseInt(hex.slice(1), 16);
  return [(value >> 16) & 255, (value >> 8) & 255, value & 255];
}

export function format([red, green, blue]: Triple): string {
  const part = (value: number) => Math.round(Math.min(Math.max(value, 0), 255)).toString(16).padStart(2, "0");
  return `#${part(red)}${part(green)}${part(blue)}`;
}

/** As typed: three or six digits, with # or without; null where it is none. */
export function typed(text: string): string | null {
  const digits = text.trim().toLowerCase().replace(/^#/, "");
  const long = /^[0-9a-f]{3}$/.test(digits) ? [...digits].map((digit) => digit + digit).join("") : digits;
  return HEX.test(`#${long}`) ? `#${long}` : null;
}

/** Hue in degrees, saturation and value 0 to 100. */
export function toHsv([red, green, blue]: Triple): Triple {
  const [most, least] = [Math.max(red, green, blue), Math.min(red, green, blue)];
  const range = most - least;
  let hue = 0;
  if (range > 0) {
    if (most === red) hue = ((green - blue) / range + 6) % 6;
    else if (most === green) hue = (blue - red) / range + 2;
    else hue = (red - green) / range + 4;
  }
  return [hue * 60, most === 0 ? 0 : (range / most) * 100, (most / 255) * 100];
}

export function fromHsv([hue, saturation, value]: Triple): Triple {
  const top = (value / 100) * 255;
  const channel = (n: number) => {
    const k = (n + hue / 60) % 6;
    return top - top * (saturation / 100) * Math.max(0, Math.min(k, 4 - k, 1));
  };
  return [channel(5), channel(3), channel(1)];
}

/** Björn Ottosson, A perceptual color space for image processing (2020). */
export function toOklab([red, green, blue]: Triple): Triple {
  const [r, g, b] = [linear(red), linear(green), linear(blue)];
  const l = Math.cbrt(0.4122214708 * r + 0.5363325363 * g + 0.0514459929 * b);
  const m = Math.cbrt(0.2119034982 * r + 0.6806995451 * g + 0.1073969566 * b);
  const s = Math.cbrt(0.0883024619 * r + 0.2817188376 * g + 0.6299787005 * b);
  return [
    0.2104542553 * l + 0.793617785 * m - 0.0040720468 * s,
    1.9779984951 * l - 2.428592205 * m + 0.4505937099 * s,
    0.0259040371 * l + 0.7827717662 * m - 0.808675766 * s,
  ];
}

export function fromOklab([lightness, a, b]: Triple): Triple {
  const l = (lightness + 0.3963377774 * a + 0.2158037573 * b) ** 3;
  const m = (lightness - 0.1055613458 * a - 0.0638541728 * b) ** 3;
  const s = (lightness - 0.0894841775 * a - 1.291485548 * b) ** 3;
  return [
    encoded(4.0767416621 * l - 3.3077115913 * m + 0.2309699292 * s),
    encoded(-1.2684380046 * l + 2.6097574011 * m - 0.3413193965 * s),
    encoded(-0.0041960863 * l - 0.7034186147 * m + 1.707614701 * s),
  ];
}

function linear(channel: number): number {
  const value = channel / 255;
  return value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
}

function encoded(value: number): number {
  return 255 * (value <= 0.0031308 ? 12.92 * value : 1.055 * Math.max(value, 0) ** (1 / 2.4) - 0.055);
}

/** Whether dark or light signs are seen on it. */
export function isLight(hex: string): boolean {
  return toOklab(parse(hex))[0] > 0.7;
}
