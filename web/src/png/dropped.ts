// A picture that was dropped for its settings: what it says, and the pictures that it was made of.
import { api, imageUrl, send } from "../api/client";
import { sha256 } from "../api/hash";
import { Refusal } from "../api/problem";
import { t } from "../i18n/index.svelte";
import { carried, inputsOf, type Carried, type Recipe } from "./recipe";

const LARGEST = 256 << 20; // bytes; a recipe may have its pictures in it

export interface Dropped {
  name: string;
  sha256: string;
  url: string;
  carried: Exclude<Carried, { kind: "none" }>;
  /** Hashes of pictures of its recipe that the server has not. */
  missing: string[];
}

/** What the file carries; an Error with a sentence where that is nothing. */
export async function dropped(file: File): Promise<Dropped> {
  if (file.size > LARGEST) throw new Error(t("drop.large", { name: file.name }));
  const found = carried(new Uint8Array(await file.arrayBuffer()));
  if (found.kind === "none") {
    throw new Error(t(found.png ? "drop.nothing" : "drop.other", { name: file.name }));
  }
  const missing = found.kind === "recipe" ? await missingOf(found.recipe) : [];
  return { name: file.name, sha256: await sha256(file), url: URL.createObjectURL(file), carried: found, missing };
}

async function missingOf(recipe: Recipe): Promise<string[]> {
  const inside = typeof recipe["embedded"] === "object" ? (recipe["embedded"] as Record<string, string>) : {};
  const missing: string[] = [];
  for (const hash of inputsOf(recipe)) {
    const data = inside[hash];
    if (await isHere(hash)) continue;
    if (data === undefined) missing.push(hash);
    else await api.upload(new Blob([Uint8Array.from(atob(data), (sign) => sign.charCodeAt(0))]), "input.png");
  }
  return missing;
}

async function isHere(hash: string): Promise<boolean> {
  try {
    await send(imageUrl(hash), { method: "HEAD" });
    return true;
  } catch (error) {
    if (error instanceof Refusal && error.status === 404) return false;
    throw error;
  }
}
