// Sets up what is missing and runs the benchmarks. `npm run bench [-- NAME...] [--json]`.
import { setUp } from './setup.mjs';

await setUp();
await import('../../dist/test/bench/main.js');
