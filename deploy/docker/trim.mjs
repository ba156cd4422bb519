// Makes node_modules small for the image: what only other platforms, compilers or people need goes.
// Runs in the build stage after `npm prune`, on the very Node and C library that the image has.
import { lstatSync, readdirSync, rmdirSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = join(dirname(fileURLToPath(import.meta.url)), '..', '..');
const modules = join(root, 'node_modules');
const require = createRequire(join(root, 'package.json'));

/** Only types, headers or build tools: nothing imports them at run time. */
const UNUSED = [
  '@types',
  'node-addon-api',
  '.bin',
  '.package-lock.json',
  'protobufjs/dist',
  'protobufjs/google',
];
/** Sources and build files of the native packages, whose compiled form is what we load. */
const SOURCES = ['zeromq/src', 'zeromq/script', 'koffi/doc', 'koffi/lib', 'koffi/vendor'];
const NOT_CODE =
  /\.(map|d\.[cm]?ts|ts|tsbuildinfo|md|cc|hh|h|c|cpp|gyp|gypi)$|^(CMakeLists\.txt|vcpkg\.json)$/;
const LICENCE = /^(licen[cs]e|copying|notice)/i;

// Both load their binary at once: what is loaded now is what this platform needs.
require('zeromq');
require('koffi');
const loaded = new Set(process.report.getReport().sharedObjects.filter((file) => file.startsWith(modules)));
if (loaded.size !== 2)
  throw new Error(`Cannot trim as two native modules are expected: ${[...loaded].join(' ')}`);

let bytes = 0;
function remove(path) {
  bytes += size(path);
  rmSync(path, { recursive: true, force: true });
}

function size(path) {
  const info = lstatSync(path, { throwIfNoEntry: false });
  if (!info) return 0;
  if (!info.isDirectory()) return info.size;
  return readdirSync(path).reduce((sum, name) => sum + size(join(path, name)), 0);
}

function sweep(dir) {
  for (const entry of readdirSync(dir, { withFileTypes: true })) {
    const path = join(dir, entry.name);
    if (entry.isDirectory()) sweep(path);
    else if (LICENCE.test(entry.name)) continue;
    else if (NOT_CODE.test(entry.name) || (entry.name.endsWith('.node') && !loaded.has(path))) remove(path);
  }
  if (readdirSync(dir).length === 0) rmdirSync(dir);
}

const before = size(modules);
for (const name of [...UNUSED, ...SOURCES]) remove(join(modules, name));
sweep(modules);

const megabytes = (count) => `${(count / 1e6).toFixed(1)} MB`;
console.log(`trim: ${megabytes(bytes)} of ${megabytes(before)} removed from node_modules`);
