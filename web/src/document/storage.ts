// Paintings in this browser's IndexedDB. Marks and pictures lie by themselves, so that a stroke is kept
// by writing that stroke; all of a save is one transaction. A painting that another tab has changed
// meanwhile is not written over.
import { openDB, type DBSchema, type IDBPDatabase, type IDBPTransaction } from "idb";
import { freshSettings, type Settings } from "../run/settings";
import { imagesOf, type Content, type LayerKind, type Shown } from "./content";
import { contentsOf, marksOf, type Step } from "./history";
import type { Mark } from "./marks";
import type { Painting } from "./painting";

interface KeptContent extends Omit<Content, "strokes" | "mask"> {
  strokes: string[];
  mask: string[];
}

type KeptStep =
  | { kind: "mark"; layer: "strokes" | "mask"; mark: string }
  | { kind: "content"; before: KeptContent; after: KeptContent };

interface KeptPainting {
  id: string;
  name: string;
  changed: number;
  revision: number;
  content: KeptContent;
  past: KeptStep[];
  future: KeptStep[];
  shown: Record<LayerKind, Shown>;
  settings: Settings;
  runs: string[];
  thumbnail: Blob | null;
}

interface Schema extends DBSchema {
  paintings: { key: string; value: KeptPainting };
  marks: { key: [string, string]; value: Mark };
  pictures: { key: string; value: Blob };
}

const STORES = ["paintings", "marks", "pictures"] as const;
const HASH = /^[0-9a-f]{64}$/; // of a picture; an id of a mark is shorter

/** What a list of paintings shows. */
export interface Summary {
  id: string;
  name: string;
  changed: number;
  width: number;
  height: number;
  thumbnail: Blob | null;
}

export interface Opened {
  painting: Painting;
  revision: number;
  pictures: Map<string, Blob>;
}

/** Another tab has changed the painting since it was read here. */
export class ChangedElsewhere extends Error {
  override name = "ChangedElsewhere";
}

export class Storage {
  #database: Promise<IDBPDatabase<Schema>> | null = null;

  constructor(readonly name = "sfumato") {}

  #open(): Promise<IDBPDatabase<Schema>> {
    this.#database ??= openDB<Schema>(this.name, 1, {
      upgrade(database) {
        database.createObjectStore("paintings", { keyPath: "id" });
        database.createObjectStore("marks");
        database.createObjectStore("pictures");
      },
      terminated: () => (this.#database = null),
    }).catch((error: unknown) => {
      this.#database = null; // may be allowed the next time
      throw error;
    });
    return this.#database;
  }

  /** Newest first. */
  async list(): Promise<Summary[]> {
    const kept = await (await this.#open()).getAll("paintings");
    return kept.sort((a, b) => b.changed - a.changed).map(({ id, name, changed, content, thumbnail }) => ({
      id, name, changed, width: content.width, height: content.height, thumbnail,
    }));
  }

  async read(id: string): Promise<Opened | null> {
    const transaction = (await this.#open()).transaction(STORES);
    const kept = await transaction.objectStore("paintings").get(id);
    if (!kept) return null;
    const range = IDBKeyRange.bound([id, ""], [id, "\uffff"]);
    const marks = new Map((await transaction.objectStore("marks").getAll(range)).map((mark) => [mark.id, mark]));
    const history = { content: whole(kept.content, marks), past: steps(kept.past, marks), future: steps(kept.future, marks) };
    const pictures = new Map<string, Blob>();
    for (const hash of new Set(contentsOf(history).flatMap(imagesOf))) {
      const blob = await transaction.objectStore("pictures").get(hash);
      if (blob) pictures.set(hash, blob);
    }
    const { name, changed, shown, runs, revision } = kept;
    const settings = { ...freshSettings(), ...kept.settings }; // an older one lacks what came since
    return { painting: { id, name, changed, history, shown, settings, runs }, revision, pictures };
  }

  /** The new revision. pictures: those that the painting names; known: ids of marks, and hashes of
   * pictures, that are kept already; what of them is named no more goes. */
  async write(
    painting: Painting, revision: number, pictures: ReadonlyMap<string, Blob>, known: ReadonlySet<string>,
    thumbnail: Blob | null,
  ): Promise<number> {
    const { history, ...rest } = painting;
    const marks = marksOf(history);
    const transaction = (await this.#open()).transaction(STORES, "readwrite");
    const store = transaction.objectStore("paintings");
    const kept = await store.get(painting.id);
    if ((kept?.revision ?? 0) !== revision) {
      transaction.abort();
      await transaction.done.catch(() => undefined);
      throw new ChangedElsewhere();
    }
    const next = revision + 1;
    const asked: Promise<unknown>[] = [];
    try {
      for (const [id, mark] of marks) {
        if (!known.has(id)) asked.push(transaction.objectStore("marks").put(mark, [painting.id, id]));
      }
      const gone = [...known].filter((id) => !marks.has(id) && !pictures.has(id));
      for (const id of gone) {
        if (!HASH.test(id)) asked.push(transaction.objectStore("marks").delete([painting.id, id]));
      }
      for (const [hash, blob] of pictures) {
        if (!known.has(hash)) asked.push(transaction.objectStore("pictures").put(blob, hash));
      }
      asked.push(store.put({
        ...rest, revision: next, content: named(history.content), past: history.past.map(namedStep),
        future: history.future.map(namedStep), thumbnail: thumbnail ?? kept?.thumbnail ?? null,
      }));
      if (gone.some((id) => HASH.test(id))) asked.push(sweep(transaction));
      else transaction.commit(); // at once, should the page be closed before its requests are answered
      await Promise.all([...asked, transaction.done]);
    } catch (error) {
      // Requests say only that the transaction was given up; it says why, such as a full disk.
      await given(transaction, asked);
      throw transaction.error ?? error;
    }
    return next;
  }

  /** Take a painting away, and pictures that no other one has. */
  async remove(id: string): Promise<void> {
    const transaction = (await this.#open()).transaction(STORES, "readwrite");
    await transaction.objectStore("paintings").delete(id);
    await transaction.objectStore("marks").delete(IDBKeyRange.bound([id, ""], [id, "\uffff"]));
    await sweep(transaction);
    await transaction.done;
  }

  /** Take away pictures that no painting names, as a tab that was closed in between may leave them. */
  async sweep(): Promise<void> {
    const transaction = (await this.#open()).transaction(STORES, "readwrite");
    await sweep(transaction);
    await transaction.done;
  }
}

/** Pictures and what names them are written by one transaction, so between two none is without a name. */
async function sweep(transaction: IDBPTransaction<Schema, typeof STORES, "readwrite">): Promise<void> {
  const used = new Set((await transaction.objectStore("paintings").getAll()).flatMap(hashesOf));
  for (const hash of await transaction.objectStore("pictures").getAllKeys()) {
    if (!used.has(hash)) await transaction.objectStore("pictures").delete(hash);
  }
}

/** All or nothing of what was asked, and nobody is left to say that it failed. Its end is waited for. */
async function given(transaction: { abort(): void; done: Promise<void> }, asked: Promise<unknown>[]): Promise<void> {
  try {
    transaction.abort();
  } catch {
    // it has ended by itself
  }
  // not their answers: of one that was under way when its transaction was given up there may be none
  for (const request of asked) request.catch(() => undefined);
  await transaction.done.catch(() => undefined);
}

function hashesOf({ content, past, future }: KeptPainting): string[] {
  const contents = [...past, ...future].flatMap((step) => (step.kind === "content" ? [step.before, step.after] : []));
  return [content, ...contents].flatMap(({ picture, reference }) => [picture, reference]).filter((hash) => hash !== null);
}

function named(content: Content): KeptContent {
  const ids = (marks: readonly Mark[]) => marks.map((mark) => mark.id);
  return { ...content, strokes: ids(content.strokes), mask: ids(content.mask) };
}

function namedStep(step: Step): KeptStep {
  if (step.kind === "mark") return { ...step, mark: step.mark.id };
  return { ...step, before: named(step.before), after: named(step.after) };
}

type Marks = ReadonlyMap<string, Mark>;

function whole(kept: KeptContent, marks: Marks): Content {
  const found = (ids: string[]) => ids.map((id) => marks.get(id)).filter((mark) => mark !== undefined);
  return { ...kept, strokes: found(kept.strokes), mask: found(kept.mask) };
}

function steps(kept: KeptStep[], marks: Marks): Step[] {
  return kept.flatMap((step): Step[] => {
    if (step.kind === "content") return [{ ...step, before: whole(step.before, marks), after: whole(step.after, marks) }];
    const mark = marks.get(step.mark);
    return mark ? [{ ...step, mark }] : [];
  });
}
