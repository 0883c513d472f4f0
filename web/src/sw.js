// Keeps the page for offline use, and gives it the headers that threads in WebAssembly need, wherever it is served from.
// The shell is fetched when the worker is installed; the runtime, models and examples when they are first used. The version
// depends on all of them but the weights, so that a cache holds files of one build.

/* global VERSION, SHELL */
const SHELL_CACHE = `shell-${VERSION}`;
const MODEL_CACHE = "models"; // addresses of weights carry their digests, so they never go stale

self.addEventListener("install", (event) => {
  event.waitUntil(
    caches
      .open(SHELL_CACHE)
      .then((cache) => cache.addAll(SHELL.map((url) => new Request(url, { cache: "no-cache" }))))
      .then(() => self.skipWaiting()),
  );
});

self.addEventListener("activate", (event) => {
  event.waitUntil(
    caches
      .keys()
      .then((names) => Promise.all(names.filter((n) => n.startsWith("shell-") && n !== SHELL_CACHE).map((n) => caches.delete(n))))
      .then(() => self.clients.claim()),
  );
});

self.addEventListener("fetch", (event) => {
  const url = new URL(event.request.url);
  if (event.request.method !== "GET" || url.origin !== self.location.origin) return;
  event.respondWith(answer(event.request, url));
});

async function answer(request, url) {
  const home = request.mode === "navigate";
  const key = home ? new URL("./", self.registration.scope).href : request;
  const weights = url.pathname.endsWith(".onnx");
  const cache = await caches.open(weights ? MODEL_CACHE : SHELL_CACHE);
  let response = await cache.match(key, { ignoreSearch: home });
  if (!response) {
    // Else the browser's own cache could answer with a file of the last build. A navigation request takes no options.
    response = await (home || weights ? fetch(request) : fetch(request, { cache: "no-cache" }));
    if (response.ok) {
      if (weights) await forget(cache, url);
      await cache.put(key, response.clone());
    }
  }
  return isolated(response);
}

/** Drop the weights that this file had under another digest. */
async function forget(cache, url) {
  for (const request of await cache.keys()) {
    if (new URL(request.url).pathname === url.pathname) await cache.delete(request);
  }
}

function isolated(response) {
  const headers = new Headers(response.headers);
  headers.set("Cross-Origin-Opener-Policy", "same-origin");
  headers.set("Cross-Origin-Embedder-Policy", "require-corp");
  headers.set("Cross-Origin-Resource-Policy", "same-origin");
  return new Response(response.body, { status: response.status, statusText: response.statusText, headers });
}
