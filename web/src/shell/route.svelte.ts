// Where in the page one is, as its address says behind the #.
export const ROUTES = ["paint", "gallery", "train", "settings"] as const;
export type Route = (typeof ROUTES)[number];

function read(): { name: Route; rest: string } {
  const [, name = "", ...rest] = location.hash.split("/");
  const known = ROUTES.find((route) => route === name);
  return { name: known ?? "paint", rest: rest.join("/") };
}

class Place {
  #now = $state(read());

  constructor() {
    addEventListener("hashchange", () => (this.#now = read()));
  }

  get name(): Route {
    return this.#now.name;
  }

  get rest(): string {
    return this.#now.rest;
  }

  go(name: Route, rest = ""): void {
    location.hash = rest ? `#/${name}/${rest}` : `#/${name}`;
  }
}

export const route = new Place();
