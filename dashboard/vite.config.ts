import { svelte } from '@sveltejs/vite-plugin-svelte';
import { defineConfig } from 'vite';

// Where `npm run dev` sends what is not a page: a real server, or the mock of dev/mock.mjs.
const server = process.env.ROLLCALL_URL ?? 'http://127.0.0.1:8180';

export default defineConfig({
  plugins: [svelte()],
  build: { target: 'es2022', assetsInlineLimit: 0, modulePreload: { polyfill: false } },
  server: { proxy: { '/api': server, '/live': { target: server, ws: true } } },
});
