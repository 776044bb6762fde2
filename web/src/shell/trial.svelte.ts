import type { Desk } from "../run/desk";
import { freshSettings } from "../run/settings";
export class TrialDesk implements Desk {
  id = "trial";
  size = { width: 512, height: 512 };
  settings = $state.raw({ ...freshSettings(), prompt: "red apple" });
  runs = $state.raw<string[]>([]);
  parents = [];
  async guide(): Promise<Blob> {
    const canvas = document.createElement("canvas");
    canvas.width = canvas.height = 512;
    const g = canvas.getContext("2d");
    if (g) { g.fillStyle = "#fff"; g.fillRect(0, 0, 512, 512); g.fillStyle = "#c22"; g.beginPath(); g.arc(256, 280, 150, 0, 7); g.fill(); g.fillStyle = "#360"; g.fillRect(250, 80, 20, 70); }
    return new Promise((resolve) => canvas.toBlob((b) => b && resolve(b)));
  }
  async picture() { return null; }
  async mask() { return null; }
  async reference() { return null; }
  async accept() {}
}
