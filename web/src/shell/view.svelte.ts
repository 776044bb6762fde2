// What of the canvas's page is shown beside the canvas.
import { narrow } from "./narrow.svelte";

class View {
  settings = $state(!narrow.current);
  film = $state(false);
}

export const view = new View();
