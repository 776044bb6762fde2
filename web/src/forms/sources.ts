// Where a field that takes a picture gets it from where nothing was chosen: what must be given is
// the painting, a mask is the mask that was painted, the rest is left out.
import { t } from "../i18n/index.svelte";
import type { Source } from "../run/settings";
import type { MethodInfo } from "../api/client";
import { fieldsOf, type FormField } from "./fields";

export function sourceOf(field: FormField): Source | null {
  if (field.required) return "guide";
  return field.name === "mask" ? "mask" : null;
}

/** What a method's fields have where they are not the default: pictures of the painting, the
 * preset's values, those that were given. */
export function standing(
  method: MethodInfo, given: Record<string, unknown>, preset: string | null, masked: boolean,
): Record<string, unknown> {
  const painted = fieldsOf(method).filter((field) => field.kind === "image").map((field) => {
    const source = sourceOf(field);
    return [field.name, source === "mask" && !masked ? null : source];
  });
  return { ...Object.fromEntries(painted), ...(preset === null ? {} : method.presets[preset]), ...given };
}

/** Where a picture comes from, in words. */
export function sourceText(source: unknown): string {
  switch (source) {
    case "guide": return t("source.guide");
    case "picture": return t("source.picture");
    case "mask": return t("source.mask");
    case "reference": return t("source.reference");
    default: return source === null ? t("source.none") : t("source.file");
  }
}
