// Generates proto/gen/ from proto/*.proto:
//   messages.js, messages.d.ts   the messages (pbjs static module)
//   services.js, services.d.ts   one table for each service: operation numbers, needed rights, message types
// Does nothing when the outputs are newer than every input, and their directory, which tells of those that are gone. Usage: node deploy/tools/gen_proto.mjs
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import protobuf from 'protobufjs';

const root = join(dirname(fileURLToPath(import.meta.url)), '..', '..');
const source = join(root, 'proto');
const target = join(source, 'gen');
const inputs = readdirSync(source)
  .filter((f) => f.endsWith('.proto'))
  .map((f) => join(source, f));
const outputs = ['messages.js', 'messages.d.ts', 'services.js', 'services.d.ts'].map((f) => join(target, f));

const modified = (file) => statSync(file, { throwIfNoEntry: false })?.mtimeMs ?? 0;
const newestInput = Math.max(...[...inputs, source, fileURLToPath(import.meta.url)].map(modified));
if (Math.min(...outputs.map(modified)) >= newestInput) process.exit(0);

mkdirSync(target, { recursive: true });

// protobufjs needs no declaration of the method options; with it, Google's descriptor.proto (1 MB of
// code) would become part of every process.
const scratch = mkdtempSync(join(target, '.sources-'));
process.on('exit', () => rmSync(scratch, { recursive: true, force: true }));
const sources = inputs
  .filter((file) => basename(file) !== 'options.proto')
  .map((file) => {
    const copy = join(scratch, basename(file));
    writeFileSync(copy, readFileSync(file, 'utf8').replace(/^import "options\.proto";$/m, ''));
    return copy;
  });

execFileSync(
  join(root, 'node_modules', '.bin', 'pbjs'),
  [
    '-t',
    'static-module',
    '-w',
    'esm',
    '--force-number',
    '--no-verify',
    '--no-delimited',
    '--no-service',
    '--no-convert',
    '-d',
    '-o',
    outputs[0],
    ...sources,
  ],
  { stdio: ['ignore', 'ignore', 'inherit'] },
);

// The comments carried the types into messages.d.ts; in the code they only cost loading time. 64-bit
// fields are JavaScript numbers throughout (addresses and sizes stay below 2^53), so Long is switched off.
const code = readFileSync(outputs[0], 'utf8')
  .replace(/^\s*\/\*\*[\s\S]*?\*\/\n/gm, '')
  .replace(/^\s*\/\/.*\n/gm, '')
  .replace(/^(import \$protobuf .*\n)/m, '$1$protobuf.util.Long = null;\n$protobuf.configure();\n');
writeFileSync(outputs[0], code);

const RIGHTS = { w: 1, s: 2, r: 4, d: 8 };
const rights = (letters) => [...letters].reduce((mask, letter) => mask | RIGHTS[letter], 0);
const lower = (name) => name[0].toLowerCase() + name.slice(1);

const schema = new protobuf.Root();
schema.resolvePath = (_origin, file) => join(scratch, basename(file));
await schema.load(sources);
schema.resolveAll();

const js = [
  '// Generated from proto/*.proto by deploy/tools/gen_proto.mjs.',
  "import { l4lab as m } from './messages.js';",
  '',
];
const dts = [
  '// Generated from proto/*.proto by deploy/tools/gen_proto.mjs.',
  "import type { l4lab as m } from './messages.js';",
  '',
];
for (const type of schema.lookup('l4lab').nestedArray) {
  if (!(type instanceof protobuf.Service)) continue;
  js.push(`export const ${type.name} = { name: 'l4lab.${type.name}', methods: {`);
  dts.push(`export declare const ${type.name}: { readonly name: 'l4lab.${type.name}'; readonly methods: {`);
  const seen = new Set();
  for (const method of type.methodsArray) {
    const option = (name) => method.getOption(`(${name})`) ?? method.getOption(name);
    const opcode = Number(option('opcode'));
    if (!opcode || seen.has(opcode))
      throw new Error(`${type.name}.${method.name}: opcode is missing or used twice`);
    seen.add(opcode);
    const [request, reply] = [method.resolvedRequestType.name, method.resolvedResponseType.name];
    js.push(
      `  ${lower(method.name)}: { opcode: ${opcode}, needs: ${rights(option('needs') ?? '')}, request: m.${request}, reply: m.${reply} },`,
    );
    dts.push(
      `  readonly ${lower(method.name)}: { readonly opcode: ${opcode}; readonly needs: number; readonly request: MessageType<m.I${request}, m.${request}>; readonly reply: MessageType<m.I${reply}, m.${reply}> };`,
    );
  }
  js.push('} };');
  dts.push('} };');
}
dts.push(
  '',
  '/** Encoder and decoder of one message; `Input` has every field optional, `Output` has the defaults filled in. */',
  'export interface MessageType<Input, Output> {',
  '  encode(message: Input): { finish(): Uint8Array };',
  '  decode(bytes: Uint8Array): Output;',
  '}',
);
writeFileSync(outputs[2], `${js.join('\n')}\n`);
writeFileSync(outputs[3], `${dts.join('\n')}\n`);
