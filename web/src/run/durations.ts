// Times and sizes as one would say them.

export function seconds(value: number, language: string): string {
  const [amount, unit] =
    value < 90 ? [Math.max(1, Math.round(value)), "second"] : value < 5400 ? [Math.round(value / 60), "minute"] : [value / 3600, "hour"];
  return new Intl.NumberFormat(language, {
    style: "unit", unit, unitDisplay: unit === "second" ? "narrow" : "short", maximumFractionDigits: 1,
  }).format(amount);
}

export function memory(bytes: number, language: string): string {
  const [amount, unit] = bytes < 1e9 ? [Math.round(bytes / 1e6), "megabyte"] : [bytes / 1e9, "gigabyte"];
  return new Intl.NumberFormat(language, { style: "unit", unit, unitDisplay: "short", maximumFractionDigits: 1 }).format(amount);
}
