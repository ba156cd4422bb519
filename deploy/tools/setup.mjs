// Sets up a checkout on a machine that has only Node and npm: packages, system libraries, build.
// Used by npm start, npm test, and by ./l4lab in a fresh checkout. Does only what is missing.
// Plain JavaScript without dependencies: it runs before there are any.
import { execFileSync, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  accessSync,
  constants,
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';

const root = join(dirname(fileURLToPath(import.meta.url)), '..', '..');
const dist = join(root, 'dist');
/** What the last build was made of. */
const STAMP = join(dist, '.stamp');
/** There as long as a build is under way, or when it was interrupted: what there is may not fit together. */
const UNFINISHED = join(dist, '.unfinished');
const LIBRARIES = [
  { file: 'liblwip.so.0', package: 'liblwip0' },
  { file: 'libslirp.so.0', package: 'libslirp0' },
];
const LIBRARY_DIRS = ['/lib', '/usr/lib', '/usr/local/lib', '/lib64', '/usr/lib64'];

class SetupError extends Error {}

function say(text) {
  process.stderr.write(`setup: ${text}\n`);
}

function run(command, args) {
  const { status, error } = spawnSync(command, args, { cwd: root, stdio: ['ignore', 2, 2] });
  if (error) throw new SetupError(`Cannot run ${command}: ${error.message}`);
  if (status !== 0)
    throw new SetupError(`${command} ${args.join(' ')} failed with status ${status}; see above`);
}

function checkNode() {
  const [major, minor] = process.versions.node.split('.').map(Number);
  if (major > 20 || (major === 20 && minor >= 19)) return;
  throw new SetupError(`l4lab needs Node 20.19 or newer: this is ${process.versions.node}`);
}

function checkPlatform() {
  if (process.platform !== 'linux') throw new SetupError(`l4lab needs Linux: this is ${process.platform}`);
}

/** Packages: installed when the lock file is newer than what npm installed last. */
function installPackages() {
  const installed = statSync(join(root, 'node_modules', '.package-lock.json'), { throwIfNoEntry: false });
  const wanted = statSync(join(root, 'package-lock.json'));
  if (installed && installed.mtimeMs >= wanted.mtimeMs) return;
  say('installing npm packages (npm ci --ignore-scripts)');
  run('npm', ['ci', '--ignore-scripts', '--no-audit', '--no-fund']);
}

function hasLibrary(file) {
  if (
    spawnSync('ldconfig', ['-p'], {
      encoding: 'utf8',
      env: { ...process.env, PATH: `${process.env.PATH}:/sbin:/usr/sbin` },
    }).stdout?.includes(`${file} `)
  )
    return true;
  const triplet =
    process.arch === 'x64' ? 'x86_64-linux-gnu' : process.arch === 'arm64' ? 'aarch64-linux-gnu' : '';
  const paths = LIBRARY_DIRS.flatMap((dir) => [join(dir, file), join(dir, triplet, file)]);
  return paths.some((path) => existsSync(path));
}

/** System libraries: installed with apt when we may, else the exact command is printed. */
function installLibraries() {
  const missing = LIBRARIES.filter(({ file }) => !hasLibrary(file)).map((library) => library.package);
  if (missing.length === 0) return;
  const install = ['apt-get', 'install', '-y', '--no-install-recommends', ...missing];
  const asRoot = process.getuid() === 0;
  const sudo = !asRoot && spawnSync('sudo', ['-n', 'true'], { stdio: 'ignore' }).status === 0;
  const apt = spawnSync('apt-get', ['--version'], { stdio: 'ignore' }).status === 0;
  if (!apt || !(asRoot || sudo)) {
    throw new SetupError(
      `The libraries ${missing.join(' and ')} are missing. Install them and start again:\n\n    sudo apt-get update && sudo ${install.join(' ')}\n`,
    );
  }
  const [command, ...prefix] = asRoot ? ['env'] : ['sudo', '-n', 'env'];
  say(`installing system libraries (${missing.join(' ')})`);
  const attempt = () =>
    spawnSync(command, [...prefix, 'DEBIAN_FRONTEND=noninteractive', ...install], {
      stdio: ['ignore', 'ignore', 'ignore'],
    }).status === 0;
  if (attempt()) return;
  run(command, [...prefix, 'DEBIAN_FRONTEND=noninteractive', 'apt-get', 'update', '-qq']);
  run(command, [...prefix, 'DEBIAN_FRONTEND=noninteractive', ...install]);
}

/** Names and times of all files that the build reads, so that it notices those that are gone as well. */
function sourcesStamp() {
  const sources = ['services', 'proto', 'test', 'tsconfig.json', 'package-lock.json'];
  const wanted = ['-name', '*.ts', '-o', '-name', '*.proto', '-o', '-name', '*.json'];
  const list = execFileSync(
    'find',
    [...sources, '-name', 'gen', '-prune', '-o', '-type', 'f', '(', ...wanted, ')', '-printf', '%T@ %p\n'],
    { cwd: root, encoding: 'utf8' },
  );
  return createHash('sha256').update(list.split('\n').sort().join('\n')).digest('hex');
}

/** Removes what was built of sources that are gone: the compiler leaves it. */
function removeStale(top) {
  if (!existsSync(join(dist, top))) return;
  for (const name of readdirSync(join(dist, top), { recursive: true })) {
    const [, stem] = /^(.*?)(?:\.d\.ts|\.js)(?:\.map)?$/.exec(join(top, name)) ?? [];
    if (stem !== undefined && !existsSync(join(root, `${stem}.ts`))) rmSync(join(dist, top, name));
  }
}

function isBuilt(stamp) {
  if (existsSync(UNFINISHED) || !existsSync(STAMP)) return false;
  return readFileSync(STAMP, 'utf8') === stamp;
}

function build() {
  const stamp = sourcesStamp();
  if (isBuilt(stamp)) return;
  say('building');
  writeFileSync(UNFINISHED, '');
  try {
    run(process.execPath, [join(root, 'deploy', 'tools', 'gen_proto.mjs')]);
    for (const top of ['services', 'test']) removeStale(top);
    run(process.execPath, [join(root, 'node_modules', 'typescript', 'bin', 'tsc'), '-p', 'tsconfig.json']);
    cpSync(join(root, 'proto', 'gen'), join(root, 'dist', 'proto', 'gen'), { recursive: true });
    writeFileSync(STAMP, stamp);
  } finally {
    rmSync(UNFINISHED);
  }
}

/**
 * Does it all in a child of flock(1): whoever sets up the same checkout meanwhile waits. False: there is no such program,
 * so nobody waits for anybody.
 */
function setUpAlone() {
  const words = [join(dist, '.lock'), process.execPath, fileURLToPath(import.meta.url)];
  const env = { ...process.env, L4LAB_SETUP: 'alone' };
  const { status, error } = spawnSync('flock', words, { stdio: ['ignore', 2, 2], env });
  if (error) return false;
  if (status !== 0) process.exit(status ?? 1);
  return true;
}

function makeDist() {
  try {
    mkdirSync(dist, { recursive: true });
    accessSync(dist, constants.W_OK);
  } catch (err) {
    throw new SetupError(
      `Cannot build l4lab as ${dist} cannot be written: ${err.message}; its owner can, with npm run build`,
    );
  }
}

/** Everything. Ends the process with status 1 and one clear message when something cannot be had. */
export async function setUp() {
  try {
    checkPlatform();
    checkNode();
    makeDist();
    if (process.env.L4LAB_SETUP !== 'alone' && setUpAlone()) return;
    installPackages();
    installLibraries();
    build();
  } catch (err) {
    if (!(err instanceof SetupError)) throw err;
    say(err.message);
    process.exit(1);
  }
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) await setUp();
