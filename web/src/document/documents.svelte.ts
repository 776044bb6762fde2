// All paintings of this browser, and the one that is open.
import { api } from "../api/client";
import { t } from "../i18n/index.svelte";
import { decode } from "../images/decode";
import { notify } from "../shell/notices.svelte";
import { LARGEST, SMALLEST } from "./content";
import { BadPainting, EXTENSION, exported, imported } from "./file";
import { isOpen, lastOpen } from "./last";
import { OpenDocument } from "./open.svelte";
import { freshPainting } from "./painting";
import { Storage, type Opened, type Summary } from "./storage";

const OTHERWISE = 256; // pixels a side, where no model says what it paints best

class Documents {
  list: readonly Summary[] = $state.raw([]);
  current: OpenDocument | null = $state.raw(null);
  readonly #storage = new Storage();
  #started: Promise<void> | null = null;

  /** The painting that was open last, or a first one. */
  start(): Promise<void> {
    this.#started ??= this.#begin();
    return this.#started;
  }

  async #begin(): Promise<void> {
    addEventListener("pagehide", () => void this.current?.flush());
    addEventListener("beforeunload", (event) => {
      if (this.current && !this.current.kept) event.preventDefault(); // the browser asks
    });
    try {
      void this.#storage.sweep().catch(() => undefined); // the next start tries again
      this.list = await this.#storage.list();
      const last = lastOpen();
      const chosen = this.list.find(({ id }) => id === last) ?? this.list[0];
      if (chosen && (await this.open(chosen.id))) return;
    } catch {
      notify(t("document.unkept"), "bad");
    }
    const side = await natural();
    await this.create(side.width, side.height);
  }

  async create(width: number, height: number, name = ""): Promise<OpenDocument> {
    const painting = freshPainting(name || t("document.untitled", { n: this.list.length + 1 }), width, height);
    return this.#show({ painting, revision: 0, pictures: new Map() });
  }

  /** A painting of its own for a picture, of its size; answers what was changed of it. */
  async begin(file: Blob, parents: readonly string[] = []): Promise<string[]> {
    const { blob, width, height, notes } = await decode(file);
    const name = file instanceof File ? file.name.replace(/\.[^.]*$/, "").slice(0, 80) : "";
    const document = await this.create(width, height, name);
    await document.place(blob, parents);
    return notes;
  }

  /** False: there is no such painting any more. */
  async open(id: string): Promise<boolean> {
    if (this.current?.id === id) return true;
    const opened = await this.#storage.read(id);
    if (opened) await this.#show(opened);
    return opened !== null;
  }

  /** The answer brings it back. */
  async remove(id: string): Promise<() => Promise<void>> {
    if (this.current?.id === id) await this.current.discard();
    const opened = await this.#storage.read(id);
    if (!opened) return async () => undefined;
    await this.#storage.remove(id);
    await this.refresh();
    const { painting, pictures } = opened;
    if (this.current?.id === id) {
      this.current = null;
      const [next] = this.list;
      const { width, height } = painting.history.content;
      if (!next || !(await this.open(next.id))) await this.create(width, height);
    }
    return async () => {
      await this.#show({ painting, revision: 0, pictures });
    };
  }

  async refresh(): Promise<void> {
    try {
      this.list = await this.#storage.list();
    } catch {
      return; // said when the painting could not be kept
    }
  }

  async import(file: Blob): Promise<void> {
    await this.#show({ ...(await imported(file)), revision: 0 });
  }

  async export(): Promise<{ blob: Blob; name: string } | null> {
    if (!this.current) return null;
    const painting = this.current.painting();
    const name = painting.name.replace(/[\\/:*?"<>|\s]+/g, "-").slice(0, 80) || "painting";
    return { blob: await exported(painting, this.current.pictures), name: `${name}${EXTENSION}` };
  }

  async #show(opened: Opened): Promise<OpenDocument> {
    await this.current?.close();
    const document = await OpenDocument.open(opened, this.#storage);
    this.current = document;
    isOpen(document.id);
    if (opened.revision === 0) document.name = opened.painting.name; // which keeps it
    await document.flush();
    await this.refresh();
    return document;
  }
}

/** The size that the server's first model paints. */
async function natural(): Promise<{ width: number; height: number }> {
  try {
    const { models } = await api.get("/v1/models", { signal: AbortSignal.timeout(2000) });
    const [width, height] = models[0]?.native ?? [OTHERWISE, OTHERWISE];
    const factor = models[0]?.factor ?? 1;
    return { width: bounded(width * factor), height: bounded(height * factor) };
  } catch {
    return { width: OTHERWISE, height: OTHERWISE };
  }
}

function bounded(side: number): number {
  return Math.min(Math.max(Math.round(side), SMALLEST), LARGEST);
}

/** One sentence for a file that is no painting. */
export function badPainting(error: BadPainting, name: string): string {
  if (error.wrong === "newer") return t("document.newer", { name });
  return error.wrong === "damaged" ? t("document.damaged", { name, why: error.detail }) : t("document.foreign", { name });
}

export const documents = new Documents();
