import { svelte } from "@sveltejs/vite-plugin-svelte";
import { defineConfig } from "vitest/config";
import { catalogue } from "./catalogue.ts";
import { offline } from "./offline.ts";

// Names of files are of their content, so that two builds of one source are equal byte for byte.
export default defineConfig({
  base: "./", // below any --root-path
  plugins: [catalogue(), svelte(), offline()],
  build: {
    outDir: "../src/sfumato/server/page",
    emptyOutDir: true,
    target: "es2022",
    modulePreload: { polyfill: false },
    assetsInlineLimit: 0,
    reportCompressedSize: false,
  },
  server: { proxy: { "/v1": "http://127.0.0.1:8642" } },
  test: { include: ["tests/**/*.test.ts", "src/**/*.test.ts"], setupFiles: ["fake-indexeddb/auto"] },
  resolve: process.env["VITEST"] ? { conditions: ["browser"] } : {},
});
