// Keeps the page for opening without a network, where the browser can: over https, or on this
// machine. Elsewhere it has no service worker, and the page works all the same.

export function keepPage(): void {
  if (!("serviceWorker" in navigator) || !isSecureContext || import.meta.env.DEV) return;
  addEventListener("load", () => {
    navigator.serviceWorker.register("./sw.js", { scope: "./" }).catch(() => undefined); // refused by settings
  });
}
