// From the gallery to the canvas: a picture to go on from, settings to run with.
import { api } from "../api/client";
import { t } from "../i18n/index.svelte";
import type { Recipe } from "../png/recipe";
import { attempt } from "../shell/attempt";
import { notify } from "../shell/notices.svelte";
import { route } from "../shell/route.svelte";

export interface Given {
  blob: Blob;
  name: string;
  sha256: string;
}

/** What the canvas does with what it is handed. */
export interface Canvas {
  picture(given: Given): Promise<void>;
  settings(recipe: Partial<Recipe>): Promise<void>;
}

let canvas: Canvas | null = null;
let waiting: ((there: Canvas) => Promise<void>)[] = [];

/** The canvas says that it is there, and takes what waits for it; the answer is called when it goes. */
export function receive(there: Canvas): () => void {
  canvas = there;
  const acts = waiting;
  waiting = [];
  for (const act of acts) void attempt(() => act(there));
  return () => { if (canvas === there) canvas = null; };
}

async function hand(act: (there: Canvas) => Promise<void>): Promise<void> {
  if (canvas) await act(canvas);
  else waiting.push(act);
  route.go("paint");
}

/** A picture as the document's, to be painted over and edited. */
export async function useAsInput(picture: { sha256: string; name: string }): Promise<void> {
  const blob = await api.image(picture.sha256);
  await hand((there) => there.picture({ blob, name: picture.name, sha256: picture.sha256 }));
}

/** Words, numbers and methods as the document's. */
export async function useSettings(recipe: Partial<Recipe>): Promise<void> {
  await hand((there) => there.settings(recipe));
  notify(t("gallery.settings.taken"), "good");
}
