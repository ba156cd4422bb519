import { defineConfig } from 'vitest/config';

export default defineConfig({
  resolve: { conditions: ['source'] },
  ssr: { resolve: { conditions: ['source'] } },
  test: {
    include: ['services/**/*.test.ts', 'test/**/*.test.ts'],
    reporters: ['default', './test/closing_line.ts'],
    // No measure of speed: it only tells a hang from a machine that is busy.
    testTimeout: 300_000,
    hookTimeout: 300_000,
    expect: { poll: { timeout: 120_000 } },
    // Two cores: integration tests start a whole lab each, more files at once only make them slower.
    maxWorkers: 2,
    // The reaper of testcontainers is an image of its own; our tests take their containers away themselves.
    env: { TESTCONTAINERS_RYUK_DISABLED: 'true' },
  },
});
