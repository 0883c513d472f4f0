// Bundle the page into a folder: node build.mjs DIST. Models and examples are added by build.py.

import { createHash } from "node:crypto";
import { copyFile, mkdir, readFile, readdir, rm, stat, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

import { build } from "esbuild";
import { parse } from "smol-toml";

const HERE = dirname(fileURLToPath(import.meta.url));
const DIST = process.argv[2] ?? join(HERE, "dist");
const TEXTS = join(HERE, "..", "app", "i18n");
const ORT = join(HERE, "node_modules", "onnxruntime-web", "dist");
const RUNTIME = [
  "ort.wasm.bundle.min.mjs",
  "ort-wasm-simd-threaded.wasm",
  "ort.jspi.bundle.min.mjs",
  "ort-wasm-simd-threaded.jspi.wasm",
];

/** The texts of a language as a flat object: the Gradio page's words and the web edition's own. */
async function texts(language) {
  const flat = {};
  const walk = (table, path) => {
    for (const [key, value] of Object.entries(table)) {
      if (typeof value === "string") flat[path + key] = value.trim();
      else walk(value, `${path}${key}.`);
    }
  };
  for (const file of [`${language}.toml`, `web.${language}.toml`]) walk(parse(await readFile(join(TEXTS, file), "utf8")), "");
  const used = /^(web|page|settings|task|class|modality|licence)\./;
  return Object.fromEntries(Object.entries(flat).filter(([key]) => used.test(key)));
}

await mkdir(join(DIST, "ort"), { recursive: true });
for (const file of await readdir(DIST)) if (/^(?!models\.json).*\.(js|css|html|json|txt)$/.test(file)) await rm(join(DIST, file));
const shared = { bundle: true, format: "esm", minify: true, target: "es2022", legalComments: "eof", logLevel: "warning" };
await build({
  ...shared,
  entryPoints: ["main", "engine", "worker"].map((name) => join(HERE, "src", `${name}.js`)),
  outdir: DIST,
  splitting: true,
  external: ["fs", "path"], // a decoder in daikon asks for them where it runs in Node.js
  chunkNames: "chunk-[hash]",
});
for (const language of ["en", "zh"]) {
  await writeFile(join(DIST, `texts.${language}.json`), JSON.stringify(await texts(language)));
}
for (const file of ["index.html", "style.css"]) await copyFile(join(HERE, file), join(DIST, file));
for (const file of RUNTIME) await copyFile(join(ORT, file), join(DIST, "ort", file));

// Licences of what is bundled.
const notices = [];
for (const name of ["onnxruntime-web", "daikon", "nifti-reader-js", "fast-png", "fflate", "iobuffer", "pako", "jpeg-lossless-decoder-js"]) {
  const folder = join(HERE, "node_modules", name);
  const file = (await readdir(folder)).find((entry) => /^licen[cs]e/i.test(entry));
  const facts = JSON.parse(await readFile(join(folder, "package.json"), "utf8"));
  notices.push(`${name} ${facts.version} (${facts.license})\n\n${file ? await readFile(join(folder, file), "utf8") : ""}`);
}
await writeFile(join(DIST, "licences.txt"), notices.join("\n\n----------------------------------------\n\n"));

const shell = ["./", ...(await readdir(DIST)).filter((file) => /\.(js|css|json)$/.test(file) && file !== "sw.js").sort()];

// The version of the service worker's cache: all that is kept there, also models' descriptions, examples and the runtime.
const hash = createHash("sha256");
for (const file of (await readdir(DIST, { recursive: true })).sort()) {
  if (file === "sw.js" || file.endsWith(".onnx") || !(await stat(join(DIST, file))).isFile()) continue;
  hash.update(`${file}\0`).update(createHash("sha256").update(await readFile(join(DIST, file))).digest());
}
await build({
  ...shared,
  format: "iife",
  entryPoints: [join(HERE, "src", "sw.js")],
  outfile: join(DIST, "sw.js"),
  define: { VERSION: JSON.stringify(hash.digest("hex").slice(0, 12)), SHELL: JSON.stringify(shell) },
});
