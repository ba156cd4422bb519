/** Figures of l4vio_switch: throughput beside vde_switch and memcpy, cost per packet, latency, fairness, idle, heap. */
import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { coreRoundTrip } from './core_distance.ts';
import { type Benchmark, type Figure, median } from './figures.ts';
import { memoryBytes, ROOT } from './lab_run.ts';
import { load, voluntarySwitches } from './proc.ts';
import { cores, end, spawnOn, withRig } from './switch_rig.ts';

const VDE_SWITCH = '/usr/bin/vde_switch';
const VDE_PACKAGE = 'vde2';
/** As in the kernel: an IPv4 packet of 65,535 bytes and its Ethernet header, rounded down to whole words. */
const LARGE = 65_548;
const MTU_FRAME = 1514;
const SHORT = 64;
const IDLE_MS = 10_000;
const IDLE_PORTS = 256;
const HEAP_PACKETS = 10_000_000;
const KIB = 1024;

interface Bulk {
  mpps: number;
  best: number;
  worst: number;
  undisturbed: number;
  gbps: number;
  gbpsBest: number;
  frames: number;
  cpuPerPacket: number;
  switchWaited: number;
  clientWaited: number;
}

type Compared = Figure['compared'];

function figure(name: string, value: number, unit: string, compared?: Compared): Figure {
  return { name: `switch, ${name}`, value, unit, ...(compared ? { compared } : {}) };
}

const target = (value: number, unit: string) => ({ name: 'target', value, unit });

/** A limit measured on the core of the clients. */
async function limit<T>(name: string, frame: number, path = ''): Promise<T> {
  const script = join(ROOT, 'dist/test/bench/switch_limits.js');
  const child = spawnOn(cores().clients, process.execPath, [script, name, String(frame), path]);
  let out = '';
  child.stdout?.on('data', (data: Buffer) => {
    out += data.toString();
  });
  const [status] = (await once(child, 'close')) as [number];
  if (status !== 0) throw new Error(`Cannot measure ${name}: ${out}`);
  return JSON.parse(out) as T;
}

/** Installs vde2 where that is possible; false with the reason on stderr where it is not. */
function haveVde(): boolean {
  if (existsSync(VDE_SWITCH)) return true;
  try {
    if (process.getuid?.() !== 0) throw new Error('only root can install packages');
    execFileSync('apt-get', ['install', '-y', '-q', VDE_PACKAGE], { stdio: 'ignore' });
    return true;
  } catch (err) {
    console.error(
      `Cannot compare with vde_switch as the Debian package ${VDE_PACKAGE} is not installed (apt-get install ${VDE_PACKAGE}): ${(err as Error).message}`,
    );
    return false;
  }
}

/** vde_switch with the same frames on the same two cores. */
async function vdeRate(frame: number): Promise<number> {
  const dir = mkdtempSync('/tmp/l4lab-bench-vde-');
  const vde = spawnOn(cores().device, VDE_SWITCH, ['-s', join(dir, 'ctl')], {
    stdio: ['pipe', 'ignore', 'ignore'],
  });
  try {
    while (!existsSync(join(dir, 'ctl', 'ctl'))) await sleep(20);
    return (await limit<{ mpps: number }>('vde', frame, join(dir, 'ctl'))).mpps;
  } finally {
    await end(vde);
    rmSync(dir, { recursive: true, force: true });
  }
}

const TARGETS = new Map([
  [SHORT, target(5, 'Mpps')],
  [MTU_FRAME, target(2, 'Mpps')],
]);
/** Measured once on the machine of the README. */
const C_SWITCH = new Map([
  [SHORT, 15.7],
  [MTU_FRAME, 4.4],
]);

async function throughput(frame: number): Promise<Figure[]> {
  const label = `${frame} B`;
  const large = frame > MTU_FRAME;
  const before = await coreRoundTrip();
  const rate = await withRig({ args: ['-s', '256'] }, (rig) => rig.play<Bulk>('bulk', { frame }));
  const after = await coreRoundTrip();
  const copy = await limit<{ mpps: number; bulkMpps: number }>('memcpy', frame);
  const rings = await limit<{ mpps: number }>('rings', frame);
  const gigabytes = (mpps: number): number => (mpps * frame) / 1e3;
  const against = (name: string, mpps: number): Figure =>
    figure(`${label}, share of ${name}`, (100 * rate.mpps) / mpps, '%', {
      name,
      value: large ? gigabytes(mpps) : mpps,
      unit: large ? 'GB/s' : 'Mpps',
    });
  const figures = [
    figure(`${label}, median`, rate.mpps, 'Mpps', large ? undefined : TARGETS.get(frame)),
    figure(`${label}, best window`, rate.best, 'Mpps', {
      name: 'worst window',
      value: rate.worst,
      unit: 'Mpps',
    }),
    figure(
      `${label}, best hundredth of milliseconds`,
      rate.undisturbed,
      'Mpps',
      large ? undefined : TARGETS.get(frame),
    ),
    figure(`${label}, median`, rate.gbps, 'GB/s', large ? target(4, 'GB/s') : undefined),
    figure(`${label}, CPU of the switch`, rate.cpuPerPacket, 'ns/packet'),
    figure(`${label}, switch waited for its core`, 100 * rate.switchWaited, '%', {
      name: 'client waited',
      value: 100 * rate.clientWaited,
      unit: '%',
    }),
    figure(`${label}, from core to core and back, before`, before, 'ns', {
      name: 'after',
      value: after,
      unit: 'ns',
    }),
    against('memcpy, a call a frame', copy.mpps),
    against('memcpy, 64 frames a call', copy.bulkMpps),
    against('both halves in one process', rings.mpps),
  ];
  const c = C_SWITCH.get(frame);
  if (c !== undefined) figures.push(against('C virtqueue switch', c));
  if (!large && haveVde()) {
    const vde = await vdeRate(frame);
    figures.push(
      figure(`${label}, times vde_switch`, rate.mpps / vde, 'x', {
        name: 'vde_switch',
        value: vde,
        unit: 'Mpps',
      }),
    );
  }
  figures.push(figure(`${label}, load of the machine`, load(), ''));
  return figures;
}

interface Cost {
  cpuPerPacket: number;
  best: number;
}

/** Driver and switch on one core: what the driver waits costs the switch nothing. */
async function cost(parameters: object): Promise<Cost> {
  const core = cores().device;
  return withRig({ core, args: ['-p', '300'] }, (rig) => rig.play<Cost>('cost', parameters, core));
}

/** What must cost the same: more ports, more addresses. */
const FLAT: readonly [string, object][] = [
  ['unicast, 2 ports, 2 MACs, batch 128', {}],
  ...[16, 64, 256].map((ports): [string, object] => [`unicast, ${ports} ports`, { ports }]),
  ...[16, 128, 1000].map((macs): [string, object] => [`unicast, ${macs} MACs`, { macs }]),
];
/** Switches for each of them, in turns, as now and then one is slower than the others. The one in the middle counts. */
const ROUNDS = 3;

async function costs(): Promise<Figure[]> {
  const figures: Figure[] = [];
  const rounds: number[][] = FLAT.map(() => []);
  for (let round = 0; round < ROUNDS; round++)
    for (const [n, [, parameters]] of FLAT.entries()) rounds[n]?.push((await cost(parameters)).cpuPerPacket);
  const medians = rounds.map(median);
  const against = { name: '2 ports, 2 MACs', value: medians[0] as number, unit: 'ns' };
  for (const [n, [name]] of FLAT.entries())
    figures.push(figure(`CPU, ${name}`, medians[n] as number, 'ns/packet', n > 0 ? against : undefined));
  const add = (name: string, { cpuPerPacket }: Cost, compared: Compared): void => {
    figures.push(figure(`CPU, ${name}`, cpuPerPacket, 'ns/packet', compared));
  };
  for (const batch of [1, 8, 32]) add(`unicast, batch ${batch}`, await cost({ batch }), against);
  for (const ports of [2, 16, 64, 256]) {
    const flood = await cost({ ports, flood: 1 });
    add(`flooding to ${ports - 1} ports`, flood, {
      name: 'per copy',
      value: flood.cpuPerPacket / (ports - 1),
      unit: 'ns',
    });
  }
  return figures;
}

interface Latency {
  p50: number;
  p99: number;
  p999: number;
  besideMpps: number;
}

async function latency(): Promise<Figure[]> {
  const figures: Figure[] = [];
  const cases = [
    ['ping-pong', {}],
    ['ping-pong after 2 ms of silence', { pauseMs: 2, count: 2000, warm: 100 }],
    ['ping-pong beside a 1514 B stream', { beside: 1 }],
  ] as const;
  for (const [name, parameters] of cases) {
    const { p50, p99, p999, besideMpps } = await withRig({}, (rig) =>
      rig.play<Latency>('pingPong', parameters),
    );
    const stream = besideMpps > 0 ? { name: 'stream', value: besideMpps, unit: 'Mpps' } : undefined;
    figures.push(figure(`${name}, p50`, p50, 'us', stream));
    figures.push(figure(`${name}, p99`, p99, 'us'));
    figures.push(figure(`${name}, p99.9`, p999, 'us'));
  }
  return figures;
}

async function fairness(): Promise<Figure[]> {
  const { share, mpps } = await withRig({}, (rig) => rig.play<{ share: number; mpps: number }>('fairness'));
  return [
    figure('64 B port beside a 1514 B bulk sender, share of frames', 100 * share, '%', {
      name: 'both',
      value: mpps,
      unit: 'Mpps',
    }),
  ];
}

async function idle(): Promise<Figure[]> {
  return withRig({ args: ['-p', '300'] }, async (rig) => {
    const none = await rig.stay('idle', { ports: 0 });
    const before = memoryBytes(rig.pid);
    await end(none);
    const driver = await rig.stay('idle', { ports: IDLE_PORTS });
    await sleep(1000);
    const switches = voluntarySwitches(rig.pid);
    await sleep(IDLE_MS);
    const woken = voluntarySwitches(rig.pid) - switches;
    const memory = memoryBytes(rig.pid);
    const done = once(driver, 'close');
    driver.stdin?.end();
    await done;
    return [
      figure(`idle, ${IDLE_PORTS} ports, wake-ups`, woken / (IDLE_MS / 1e3), '1/s', target(0, '1/s')),
      figure(`idle, ${IDLE_PORTS} ports, memory (PSS)`, (memory - before) / IDLE_PORTS / KIB, 'KiB/port', {
        name: 'whole switch',
        value: memory / KIB / KIB,
        unit: 'MiB',
      }),
    ];
  });
}

/** Bytes allocated in [from, to) of a --trace-gc output: what each collection found more than the last one left. */
export function allocatedBytes(lines: readonly string[]): number {
  let [left, sum] = [-1, 0];
  for (const line of lines) {
    const sizes = /: [\w-]+(?: \([^)]*\))? ([\d.]+) \([\d.]+\) -> ([\d.]+) /.exec(line);
    if (!sizes) continue;
    if (left >= 0) sum += Math.max(0, Number(sizes[1]) - left) * KIB * KIB;
    left = Number(sizes[2]);
  }
  return sum;
}

/** Small collections, so that they are often: a megabyte of garbage is seen. */
async function heap(): Promise<Figure[]> {
  const nodeOptions = ['--trace-gc', '--min-semi-space-size=1', '--max-semi-space-size=1'];
  return withRig({ nodeOptions }, async (rig) => {
    await rig.play<Bulk>('bulk', { windows: 2 });
    const mark = rig.output.length;
    const { frames } = await rig.play<Bulk>('bulk', { frames: HEAP_PACKETS });
    const lines = rig.output.slice(mark).split('\n');
    return [
      figure(
        `heap growth over ${Math.round(frames / 1e6)} million packets`,
        allocatedBytes(lines) / frames,
        'B/packet',
        {
          name: 'collections',
          value: lines.filter((line) => line.includes('->')).length,
          unit: '',
        },
      ),
    ];
  });
}

const PARTS: readonly [string, string, () => Promise<Figure[]>][] = [
  ['switch-64', '64 B frames', () => throughput(SHORT)],
  ['switch-1514', '1514 B frames', () => throughput(MTU_FRAME)],
  ['switch-tso', '64 KiB frames', () => throughput(LARGE)],
  ['switch-cost', 'CPU per packet by ports, MACs and batch', costs],
  ['switch-latency', 'ping-pong', latency],
  ['switch-fair', 'two senders', fairness],
  ['switch-idle', 'wake-ups and memory', idle],
  ['switch-heap', 'garbage per packet', heap],
];

/** All of them are `switch`; each has a name of its own as well. */
export const SWITCH_BENCHMARKS: readonly Benchmark[] = PARTS.map(([name, about, run]) => ({
  name,
  group: 'switch',
  about: `l4vio_switch: ${about}`,
  run,
}));
