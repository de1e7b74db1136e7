import { svelte } from "@sveltejs/vite-plugin-svelte";
import { defineConfig } from "vite";

// The control daemon serves ../dist under a policy without inline code and without `data:`, hence no inlining.
export default defineConfig({
  plugins: [svelte()],
  build: {
    outDir: "../dist",
    emptyOutDir: true,
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    target: "es2022",
  },
  server: { proxy: { "/v1": { target: "http://127.0.0.1:8080", ws: true } } },
});
