// Server-sent events read by hand: EventSource cannot say where it was when another tab takes over.

export interface Told {
  id: string | null;
  event: string;
  data: string;
}

/** Cuts a stream into events; parts may end anywhere. */
export class Reader {
  #rest = "";
  retry: number | null = null;

  /** The events that end with this part. */
  read(part: string): Told[] {
    const lines = (this.#rest + part).split("\n\n");
    this.#rest = lines.pop() ?? "";
    return lines.flatMap((block) => this.#event(block));
  }

  #event(block: string): Told[] {
    let id: string | null = null;
    let event = "message";
    const data: string[] = [];
    for (const line of block.split("\n")) {
      const cut = line.indexOf(":");
      if (cut <= 0) continue; // a comment, by which the server says that it is there
      const value = line.slice(cut + 1).replace(/^ /, "");
      const name = line.slice(0, cut);
      if (name === "id") id = value;
      else if (name === "event") event = value;
      else if (name === "data") data.push(value);
      else if (name === "retry") this.retry = Number(value) || null;
    }
    return data.length ? [{ id, event, data: data.join("\n") }] : [];
  }
}
