// Where a field that takes a picture gets it from where nothing was chosen: what must be given is
// the painting, a mask is the mask that was painted, the rest is left out.
import type { Source } from "../run/settings";
import type { FormField } from "./fields";

export function sourceOf(field: FormField): Source | null {
  if (field.required) return "guide";
  return field.name === "mask" ? "mask" : null;
}
