// Log in, upload, run, listen and fetch with the types of schema.ts; `npm run check` compiles it.
import type { components, operations } from "./schema.ts";

type Schemas = components["schemas"];

async function ask<Answer>(path: string, request: RequestInit = {}): Promise<Answer> {
  const answer = await fetch(path, { credentials: "same-origin", ...request });
  if (!answer.ok) {
    const problem = (await answer.json()) as Schemas["Problem"];
    throw new Error(problem.detail);
  }
  return (await answer.json()) as Answer;
}

function posted(body: unknown): RequestInit {
  return {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(body),
  };
}

export async function login(token: string): Promise<string> {
  const body: Schemas["LoginRequest"] = { token };
  return (await ask<Schemas["Session"]>("/v1/session", posted(body))).client;
}

export async function upload(picture: Blob, name: string): Promise<Schemas["PictureRef"]> {
  const form = new FormData();
  form.append("file", picture, name);
  const file = await ask<Schemas["File"]>("/v1/images", { method: "POST", body: form });
  return { sha256: file.sha256, name: file.name };
}

export async function submit(prompt: string, image: Schemas["PictureRef"]): Promise<Schemas["Job"]> {
  const method: Schemas["SDEditMethod"] = { method: "sdedit", image, t0: 0.6 };
  const body: Schemas["JobRequest"] = {
    kind: "recipe",
    recipe: { model: "emoji", prompt, methods: [method] },
  };
  return ask<Schemas["Job"]>("/v1/jobs", posted(body));
}

export function listen(
  job: string,
  told: (event: Schemas["JobEvent"]) => void,
  ended: () => void,
): EventSource {
  const names: Schemas["JobEvent"]["event"][] = [
    "queued", "started", "step", "picture", "note", "child",
    "done", "failed", "cancelled", "interrupted",
  ];
  const source = new EventSource(`/v1/jobs/${job}/events`);
  for (const name of names) {
    source.addEventListener(name, (message: MessageEvent<string>) => {
      const event = JSON.parse(message.data) as Schemas["JobEvent"];
      told(event);
      if (event.job === job && ["done", "failed", "cancelled", "interrupted"].includes(name)) {
        source.close();
        ended();
      }
    });
  }
  return source;
}

export async function fetched(job: Schemas["Job"]): Promise<string[]> {
  return job.results.map((file) => `/v1/images/${file.sha256}`);
}

export type JobQuery = NonNullable<operations["listJobs"]["parameters"]["query"]>;
