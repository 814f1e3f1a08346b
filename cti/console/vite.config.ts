import { svelte } from '@sveltejs/vite-plugin-svelte';
import { defineConfig } from 'vitest/config';

// The class hash follows the content of the style, so that a build is the same in every directory.
export default defineConfig({
  base: './',
  plugins: [
    svelte({ compilerOptions: { cssHash: ({ hash, css }) => `s-${hash(css)}` } }),
  ],
  build: {
    target: ['chrome123', 'firefox128', 'safari17.5'],
    sourcemap: false,
    modulePreload: { polyfill: false },
    assetsInlineLimit: 0,
    reportCompressedSize: false,
    chunkSizeWarningLimit: 600,
  },
  server: { port: 17900, proxy: { '/api': { target: 'http://127.0.0.1:17901', ws: true } } },
  test: { include: ['src/**/*.test.ts', 'widget/*.test.ts'], environment: 'node' },
});
