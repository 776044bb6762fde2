// Problems: what went wrong with a request, as one sentence that can be shown.
import { t } from "../i18n/index.svelte";
import type { components } from "./schema";

export type Problem = components["schemas"]["Problem"];

/** The server refused: `field` is the part of the request that it is about. */
export class Refusal extends Error {
  override name = "Refusal";

  constructor(
    readonly status: number,
    message: string,
    readonly field: string | null = null,
    readonly retryAfter: number | null = null,
  ) {
    super(message);
  }
}

/** The server did not answer. */
export class Unreachable extends Error {
  override name = "Unreachable";

  constructor() {
    super(t("server.lost"));
  }
}

function isProblem(value: unknown): value is Problem {
  return typeof value === "object" && value !== null && "detail" in value && "status" in value;
}

/** What an answer that is no success says. */
export async function refusal(response: Response): Promise<Refusal> {
  const wait = Number(response.headers.get("retry-after"));
  const retry = Number.isFinite(wait) && wait > 0 ? wait : null;
  const kind = response.headers.get("content-type") ?? "";
  if (kind.startsWith("application/problem+json")) {
    const body: unknown = JSON.parse((await response.text()) || "null"); // none of a HEAD
    if (isProblem(body)) return new Refusal(body.status, body.detail, body.field ?? null, retry);
  }
  return new Refusal(response.status, t("server.odd", { status: response.status }), null, retry);
}

/** One sentence for whatever was thrown. */
export function sentence(error: unknown): string {
  if (error instanceof Refusal && error.status === 401) return t("session.expired");
  if (error instanceof Error && error.message) {
    const text = error.message;
    return text.charAt(0).toUpperCase() + text.slice(1);
  }
  return t("error.unknown");
}
