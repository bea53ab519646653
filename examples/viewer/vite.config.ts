import { cpSync, readdirSync, existsSync } from "node:fs";
import { defineConfig } from "vite";

// The iTwin packages contain locales, workers and cursors that the page loads at run time, from its own origin.
// Each start copies them into the folder that Vite serves, and copies into dist/, unchanged.
const assets = ".assets";
for (const name of readdirSync("node_modules/@itwin")) {
  const from = `node_modules/@itwin/${name}/lib/public`;
  if (existsSync(from)) cpSync(from, assets, { recursive: true });
}

export default defineConfig({
  publicDir: assets,
  base: "./",
  esbuild: { jsx: "automatic" },
  // The packages' style sheets import each other by webpack's "~package/file".
  resolve: { alias: [{ find: /^~(.*)$/, replacement: "$1" }] },
  server: { port: 5173, strictPort: true },
  build: {
    target: "es2022",
    chunkSizeWarningLimit: 12_000,
    reportCompressedSize: false,
    // Warnings about other people's packages can't be fixed here.
    rollupOptions: { onwarn: (warning, warn) => warning.id?.includes("/node_modules/") || warn(warning) },
  },
});
