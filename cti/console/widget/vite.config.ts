import { defineConfig } from 'vite';

// The chat on other people's pages: one script under a name that stays.
export default defineConfig({
  publicDir: false,
  build: {
    target: ['chrome123', 'firefox128', 'safari17.5'],
    outDir: 'dist',
    emptyOutDir: false,
    reportCompressedSize: false,
    lib: { entry: 'widget/chat.ts', formats: ['iife'], name: 'monofil', fileName: () => 'widget.js' },
  },
});
