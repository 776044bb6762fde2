// The service worker: the page's own files are kept, so that it opens without a network. What the
// server says (v1/) is never kept here. offline.ts puts in the files and their digest.
const FILES = ["./","./assets/index-B_1Y_Koz.css","./assets/index-D1OQWyyC.js","./assets/sha2-B6xCAIQP.js","./icon-192.png","./icon-512.png","./icon-apple.png","./icon-maskable.png","./icon.svg","./manifest.webmanifest"];
const CACHE = "sfumato-de0594704b05a065";
const PATIENCE = 3000; // milliseconds in which the network may answer for the page itself

self.addEventListener("install", (event) => {
  event.waitUntil(caches.open(CACHE).then((cache) => cache.addAll(FILES.map((file) => new Request(file, { cache: "reload" })))));
});

self.addEventListener("activate", (event) => {
  const old = (name) => name.startsWith("sfumato-") && name !== CACHE;
  event.waitUntil(
    caches.keys().then((names) => Promise.all(names.filter(old).map((name) => caches.delete(name)))),
  );
});

self.addEventListener("fetch", (event) => {
  const { request } = event;
  const { origin, pathname } = new URL(request.url); // without what is behind # or ?
  const { scope } = self.registration;
  const file = `${origin}${pathname}`.startsWith(scope) ? `${origin}${pathname}`.slice(scope.length) : null;
  if (request.method !== "GET" || file === null || file.startsWith("v1/")) return;
  if (file === "" || file === "index.html") event.respondWith(page(request));
  else if (FILES.includes(`./${file}`)) event.respondWith(caches.match(request, { ignoreVary: true }).then((kept) => kept ?? fetch(request)));
});

/** The page as it is now; without an answer in time, or with one that is no page, as it was kept. */
async function page(request) {
  const kept = await caches.match(self.registration.scope, { cacheName: CACHE, ignoreVary: true });
  const asked = fetch(request).then((response) => (response.ok ? response : (kept ?? response)));
  if (!kept) return asked;
  const late = new Promise((resolve) => setTimeout(() => resolve(kept), PATIENCE));
  return Promise.race([asked.catch(() => kept), late]);
}
