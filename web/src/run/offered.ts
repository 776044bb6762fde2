// What a run names and its server may not have: the model, methods, weights of methods.
import type { MethodInfo, ModelView } from "../api/client";
import { Unreachable } from "../api/problem";
import { catalogue } from "../forms/methods.svelte";
import { maybe, t } from "../i18n/index.svelte";

/** Something is not there that a run needs; its message is one sentence. */
export class Missing extends Error {
  override name = "Missing";
}

/** The model of settings, none being the server's first. */
export function modelOf({ model: name }: { model: string | null }): ModelView {
  const model = catalogue.model(name);
  if (model) return model;
  if (!catalogue.methods.length) throw new Unreachable(); // what the server offers is not known yet
  throw new Missing(name === null ? t("run.no-models") : t("run.no-model", { name }));
}

/** Why this server cannot run a method, in its own words; none: it can. */
export function obstacle(id: string, method: MethodInfo | undefined): string | null {
  if (!method) return t("run.no-method", { name: maybe(`method.${id}`, id) });
  return method.unavailable || null;
}
