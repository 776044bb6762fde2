// The plugin that writes sw.js: the service worker with the page's files and a digest of them.
import { createHash } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import type { Plugin } from "vite";

const HERE = import.meta.dirname;

function publicFiles(): string[] {
  return readdirSync(join(HERE, "public"), { recursive: true, withFileTypes: true, encoding: "utf-8" })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name).slice(join(HERE, "public").length + 1).replaceAll("\\", "/"))
    .sort();
}

export function offline(): Plugin {
  return {
    name: "offline",
    enforce: "post",
    generateBundle: {
      order: "post",
      handler(_, bundle) {
        const digest = createHash("sha256");
        const names: string[] = [];
        for (const [name, file] of Object.entries(bundle).sort(([a], [b]) => (a < b ? -1 : 1))) {
          digest.update(name).update(file.type === "chunk" ? file.code : file.source);
          if (name !== "index.html") names.push(`./${name}`);
        }
        for (const name of publicFiles()) {
          digest.update(name).update(readFileSync(join(HERE, "public", name)));
          names.push(`./${name}`);
        }
        const source = readFileSync(join(HERE, "src", "offline", "worker.js"), "utf-8")
          .replace("[/* files */]", JSON.stringify(["./", ...names]))
          .replace("/* digest */", digest.digest("hex").slice(0, 16));
        this.emitFile({ type: "asset", fileName: "sw.js", source });
      },
    },
  };
}
