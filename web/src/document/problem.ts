// One sentence for what went wrong with a file or with keeping a painting.
import { t } from "../i18n/index.svelte";
import { Unreadable } from "../images/decode";

export function problem(error: unknown): string {
  if (error instanceof Unreadable) return error.message;
  if (error instanceof DOMException && error.name === "QuotaExceededError") return t("document.full");
  return t("error.unknown");
}
