// Sets up what is missing and fuzzes the virtqueues. `npm run fuzz -- [--seed N] [--minutes M] [--corpus DIR]`.
import { setUp } from './setup.mjs';

await setUp();
await import('../../dist/test/fuzz/main.js');
