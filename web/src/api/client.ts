// Requests to the server, typed by its own document. Addresses are relative to the page, so that
// they hold below any path that a proxy puts in front.
import { connection } from "./connection.svelte";
import { sha256 } from "./hash";
import { refusal, Unreachable } from "./problem";
import type { components, paths } from "./schema";
import { session } from "./session.svelte";

export type Schemas = components["schemas"];
export type Job = Schemas["Job"];
export type JobRequest = Schemas["JobRequest"];
export type File = Schemas["File"];
export type Plan = Schemas["Plan"];
export type MethodInfo = Schemas["MethodInfo"];
export type ModelView = Schemas["ModelView"];
export type JobEvent = Schemas["JobEvent"];

type Verb = "get" | "post" | "delete";
type With<V extends Verb> = {
  [P in keyof paths]: paths[P] extends Record<V, { responses: unknown }> ? P : never;
}[keyof paths];
type Operation<P extends keyof paths, V extends Verb> = paths[P] extends Record<V, infer O> ? O : never;
type Content<R> = R extends { content: { "application/json": infer B } } ? B : undefined;
type Answer<O> = O extends { responses: infer R }
  ? { [S in keyof R]: S extends 200 | 201 | 202 | 204 ? Content<R[S]> : never }[keyof R]
  : never;
type Body<O> = O extends { requestBody: { content: { "application/json": infer B } } } ? B : undefined;
type Part<O, K extends "path" | "query"> = O extends { parameters: infer P }
  ? K extends keyof P ? NonNullable<P[K]> : Record<string, never>
  : Record<string, never>;

export interface Asked<O> {
  path?: Part<O, "path">;
  query?: Part<O, "query">;
  body?: Body<O>;
  headers?: Record<string, string>;
  signal?: AbortSignal;
}

const TIMEOUT = 60_000; // milliseconds; an upload from a phone takes a while

/** The address of a route, `{name}` filled in. */
export function address(route: string, path: object = {}, query: object = {}): string {
  const filled = route.replace(/\{(\w+)\}/g, (_, name: string) =>
    encodeURIComponent(String(Object.entries(path).find(([key]) => key === name)?.[1] ?? "")),
  );
  const url = new URL(filled.replace(/^\//, ""), document.baseURI);
  for (const [name, value] of Object.entries(query)) {
    if (value !== undefined && value !== null) url.searchParams.set(name, String(value));
  }
  return url.href;
}

/** The answer, whatever its status below 400; Refusal or Unreachable else. */
export async function send(url: string, init: RequestInit = {}): Promise<Response> {
  let response: Response;
  const limit = AbortSignal.timeout(TIMEOUT);
  const signal = init.signal ? AbortSignal.any([init.signal, limit]) : limit;
  try {
    response = await fetch(url, { ...init, signal, credentials: "same-origin" });
  } catch (error) {
    if (init.signal?.aborted) throw error;
    connection.failed();
    throw new Unreachable();
  }
  connection.answered();
  if (response.status === 502 || response.status === 504) throw new Unreachable(); // a proxy's
  if (response.status === 401) session.expire();
  if (!response.ok && response.status !== 304) throw await refusal(response);
  return response;
}

async function request<P extends keyof paths, V extends Verb>(
  verb: V, route: P, asked: Asked<Operation<P, V>>,
): Promise<Answer<Operation<P, V>>> {
  const init: RequestInit = { method: verb.toUpperCase(), headers: { ...asked.headers } };
  if (asked.signal) init.signal = asked.signal;
  if (asked.body !== undefined) {
    init.body = JSON.stringify(asked.body);
    init.headers = { ...asked.headers, "content-type": "application/json" };
  }
  const response = await send(address(route, asked.path, asked.query), init);
  return JSON.parse((await response.text()) || "null"); // typed by the document
}

const uploaded = new Set<string>();

export const api = {
  get<P extends With<"get">>(route: P, asked: Asked<Operation<P, "get">> = {}) {
    return request("get", route, asked);
  },

  post<P extends With<"post">>(route: P, asked: Asked<Operation<P, "post">> = {}) {
    return request("post", route, asked);
  },

  delete<P extends With<"delete">>(route: P, asked: Asked<Operation<P, "delete">> = {}) {
    return request("delete", route, asked);
  },

  /** The hash by which jobs name a picture, which is sent if it was not before. */
  async upload(blob: Blob, name = "picture.png", signal?: AbortSignal): Promise<string> {
    const hash = await sha256(blob);
    if (uploaded.has(hash)) return hash;
    const form = new FormData();
    form.append("file", blob, name); // not asked for first: a browser logs every 404 as an error
    await send(address("/v1/images"), { method: "POST", body: form, ...(signal ? { signal } : {}) });
    uploaded.add(hash);
    return hash;
  },

  /** Send pictures again: the server has forgotten one. */
  forget(): void {
    uploaded.clear();
  },

  async image(hash: string, signal?: AbortSignal): Promise<Blob> {
    const response = await send(imageUrl(hash), signal ? { signal } : {});
    return response.blob();
  },
};

/** Where a picture is, for an <img>. */
export function imageUrl(hash: string): string {
  return address("/v1/images/{sha256}", { sha256: hash });
}
