// What can be done with pictures of the gallery: downloaded, made again, deleted, gone on from.
import { address, api, imageUrl, send, type JobRequest } from "../api/client";
import { sentence } from "../api/problem";
import { t } from "../i18n/index.svelte";
import { jobs } from "../jobs/jobs.svelte";
import { asked, carried, placeOf, type Recipe } from "../png/recipe";
import { attempt } from "../shell/attempt";
import { notify } from "../shell/notices.svelte";
import { gallery, parts, type GalleryPicture } from "./gallery.svelte";

/** Hand a file to the browser's downloads. */
export function save(blob: Blob, name: string): void {
  const url = URL.createObjectURL(blob);
  const link = document.createElement("a");
  link.href = url;
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}

/** A name for a picture's file: its words and its seed. */
export function fileName(picture: GalleryPicture, ending = "png"): string {
  const words = picture.prompt.replace(/[^\p{L}\p{N}]+/gu, "-").replace(/^-|-$/g, "").slice(0, 40);
  return `${words || "picture"}${picture.seed === null ? "" : `-${picture.seed}`}.${ending}`;
}

/** The file as it is: its recipe is in it. */
export async function download(picture: GalleryPicture): Promise<void> {
  save(await api.image(picture.sha256), fileName(picture, picture.name.split(".").pop()));
}

export async function downloadRecipe(picture: GalleryPicture, recipe: Recipe): Promise<void> {
  save(new Blob([JSON.stringify(recipe, null, 1)], { type: "application/json" }), fileName(picture, "json"));
}

/** Pictures and their recipes as ZIP files of up to a thousand. */
export async function downloadMany(pictures: readonly GalleryPicture[]): Promise<void> {
  const groups = parts(pictures);
  for (const [k, group] of groups.entries()) {
    const response = await send(address("/v1/gallery/archive"), {
      method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify({ pictures: group }),
    });
    save(await response.blob(), groups.length > 1 ? `sfumato-${k + 1}.zip` : "sfumato.zip");
  }
}

/** The recipe that a picture carries, else the one its job was given. */
export async function recipeOf(picture: { sha256: string; job: string }): Promise<Recipe> {
  const response = await send(imageUrl(picture.sha256));
  const found = carried(new Uint8Array(await response.arrayBuffer()));
  if (found.kind === "recipe") return found.recipe;
  const job = await api.get("/v1/jobs/{id}", { path: { id: picture.job } });
  const { recipe } = job;
  if (recipe && "model" in recipe && "prompt" in recipe) return { ...recipe, model: String(recipe["model"]), prompt: String(recipe["prompt"]) };
  throw new Error(t("gallery.no.recipe"));
}

/** A job of a recipe. Its fields are the server's to judge, which says what is wrong with one. */
export function request(recipe: Recipe): JobRequest {
  return { kind: "recipe", recipe: recipe as never, search: [], target: "rms", name: "", priority: 0 };
}

/** Make a picture again, and say whether its bytes are the same. */
export async function reproduce(recipe: Recipe, sha256: string): Promise<void> {
  const job = await jobs.submit(request(asked(recipe)));
  notify(t("gallery.reproducing"));
  void jobs.end(job).then(() => {
    const made = job.pictures.find((file) => file.place === placeOf(recipe));
    if (!made) notify(job.error ?? t("gallery.reproduced.not"), "bad");
    else if (made.sha256 === sha256) notify(t("gallery.reproduced"), "good");
    else notify(t("gallery.reproduced.other"), "info");
  });
}

/** Delete, with a way back. */
export async function remove(pictures: readonly GalleryPicture[]): Promise<void> {
  try {
    const undo = await gallery.remove(pictures);
    const label = t("gallery.undo");
    notify(t("gallery.deleted", { n: pictures.length }), "info", { label, run: () => void attempt(undo) });
  } catch (error) {
    notify(sentence(error), "bad");
  }
}
