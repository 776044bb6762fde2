// What becomes of a file that was dropped, pasted or chosen.
import { badPainting, documents } from "../document/documents.svelte";
import { BadPainting, EXTENSION } from "../document/file";
import { problem } from "../document/problem";
import { t } from "../i18n/index.svelte";
import { notify } from "../shell/notices.svelte";

/** Of a picture: the picture that is painted on, a reference beside it, or a painting of its own. */
export type Use = "picture" | "reference" | "new";

export function isPainting(file: File): boolean {
  return file.name.toLowerCase().endsWith(EXTENSION) || file.type === "application/zip";
}

/** Use a picture; whatever goes wrong is said, and changes nothing. */
export async function usePicture(file: File, use: Use): Promise<void> {
  try {
    const current = documents.current;
    if (!current) return;
    let notes: string[];
    if (use === "reference") notes = await current.refer(file);
    else if (use === "picture") notes = await current.place(file);
    else notes = await documents.begin(file);
    if (notes.length) notify(notes.join(" "), "info");
  } catch (error) {
    notify(problem(error), "bad");
  }
}

export async function usePainting(file: File): Promise<void> {
  try {
    await documents.import(file);
    notify(t("document.imported", { name: documents.current?.name ?? file.name }), "good");
  } catch (error) {
    notify(error instanceof BadPainting ? badPainting(error, file.name) : problem(error), "bad");
  }
}

/** The files that came by a drop or from the clipboard. */
export function filesOf(data: DataTransfer | null): File[] {
  return [...(data?.files ?? [])];
}
