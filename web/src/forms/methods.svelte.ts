// The methods and models of the server, as it lists them.
import { api, type MethodInfo, type ModelView } from "../api/client";
import { connection } from "../api/connection.svelte";
import { jobs } from "../jobs/jobs.svelte";

const FIRST = ["sdedit", "inpaint", "ilvr", "diffstyler", "upscale"]; // any other comes behind

function rank(method: MethodInfo): number {
  const place = FIRST.indexOf(method.id);
  return place < 0 ? FIRST.length : place;
}

class Catalogue {
  methods = $state.raw<readonly MethodInfo[]>([]);
  models = $state.raw<readonly ModelView[]>([]);
  readonly tasks = $derived(this.methods.filter((method) => method.verb).sort((a, b) => rank(a) - rank(b)));
  readonly extras = $derived(this.methods.filter((method) => !method.verb));

  method(id: string | null): MethodInfo | undefined {
    return this.methods.find((method) => method.id === id);
  }

  /** Of that name; the first where none is named. */
  model(name: string | null): ModelView | undefined {
    return name === null ? this.models[0] : this.models.find((model) => model.name === name);
  }

  async load(): Promise<void> {
    const [methods, models] = await Promise.all([api.get("/v1/methods"), api.get("/v1/models")]);
    this.methods = methods.methods;
    this.models = models.models;
  }

  /** Load now, and again whenever the server is back or has more to offer. */
  start(): void {
    const load = () => void this.load().catch(() => undefined); // said by the connection
    load();
    connection.onBack(load);
    jobs.onEnd((job) => {
      if (job.kind === "train" && job.state === "done") load(); // methods may name what was trained
    });
  }
}

export const catalogue = new Catalogue();
