/**
 * What the driver process does with its ports. Every scenario returns plain numbers; times are nanoseconds, of CPU
 * where the name says so. The loop never sleeps: without progress it gives up the core, as a busy client's pump does.
 */
import { setImmediate as turn } from 'node:timers/promises';
import { schedYield } from '#common/shm/libc';
import { NET_HDR_SIZE } from '#common/virtio/net_header';
import { median } from './figures.ts';
import { processCpu } from './proc.ts';
import type { BenchPort, PortShape } from './switch_port.ts';

/** Receive buffer of a stock client: any Ethernet frame with its header. */
const RX_BUFFER = 1536;
const LARGE_RX_BUFFER = 4096;
const LARGE_FRAME = 4000;
const SLICE_MS = 20;
const STUCK_MS = 10_000;
const MOMENT_MS = 1;
const MAX_MOMENTS = 100_000;

export interface Bench {
  open(shape: PortShape): Promise<BenchPort>;
  /** All that were opened. */
  readonly ports: readonly BenchPort[];
  readonly switchPid: number;
}

type Parameters = Readonly<Record<string, number>>;
type Result = Record<string, number | readonly number[]>;

function shapeFor({ frame = 64, queueSize = 256 }: Parameters): PortShape {
  const large = frame > LARGE_FRAME;
  return { queueSize, frame, rxBuffer: large ? LARGE_RX_BUFFER : RX_BUFFER, large };
}

/**
 * Frames that may be on their way from port to port: those that the receiver has buffers for. The switch drops what
 * finds no buffer, as every switch; here a lost frame is an error.
 */
function windowOf({ frame, queueSize, rxBuffer }: PortShape): number {
  return Math.floor(queueSize / Math.ceil((NET_HDR_SIZE + frame) / rxBuffer));
}

/** Sends up to `count` frames as far as the receiver has room; returns how many. */
function send(from: BenchPort, to: BenchPort, window: number, count: number): number {
  const produced = from.produce(Math.min(count, window - ((from.next - to.expected) >>> 0)));
  if (produced > 0) from.flush();
  return produced;
}

interface Pair {
  readonly from: BenchPort;
  readonly to: BenchPort;
  readonly window: number;
}

/** A pair of ports that know each other's place: `from` sends the frames, `to` gets them. */
async function openPair(bench: Bench, parameters: Parameters): Promise<Pair> {
  const shape = shapeFor(parameters);
  const [from, to] = [await bench.open(shape), await bench.open(shape)];
  from.hello();
  to.hello();
  // Every port has seen the broadcasts.
  await settle(bench.ports);
  from.prepare(to.mac, shape.frame);
  to.prepare(from.mac, shape.frame);
  to.frameLength = from.frameLength = shape.frame;
  return { from, to, window: windowOf(shape) };
}

/** Runs `step` until `done`, with a turn of the event loop now and then. Throws when nothing moves any more. */
async function run(step: () => boolean, done: () => boolean): Promise<void> {
  let moved = performance.now();
  // `done` may look at the clock only now and then: what it says once is final.
  let finished = false;
  while (!finished) {
    const end = performance.now() + SLICE_MS;
    let progress = false;
    while (!finished) {
      finished = done();
      if (finished) break;
      if (step()) progress = true;
      else {
        schedYield();
        if (performance.now() > end) break;
      }
    }
    const now = performance.now();
    if (progress) moved = now;
    else if (now - moved > STUCK_MS) throw new Error(`no frame moved for ${STUCK_MS} ms`);
    await turn();
  }
}

/** Until all that was sent has been taken, and nothing comes in any more. */
async function settle(ports: readonly BenchPort[]): Promise<void> {
  const quiet = performance.now() + 50;
  const step = (): boolean => {
    let progress = 0;
    for (const port of ports) progress += port.reclaim() + port.consume(port.rx.size);
    return progress > 0;
  };
  await run(step, () => performance.now() > quiet && ports.every((port) => port.inFlight === 0));
}

interface Sample {
  /** Wall time. */
  ns: number;
  frames: number;
  bytes: number;
  cpu: number;
  /** Waited for the core, of the switch and of the driver. */
  waited: number;
  ownWait: number;
}

/** Frames that went by, and what it took, between two looks. */
class Meter {
  readonly #bench: Bench;
  readonly #ports: readonly BenchPort[];
  #start: Sample;

  constructor(bench: Bench, ports: readonly BenchPort[]) {
    this.#bench = bench;
    this.#ports = ports;
    this.#start = this.#look();
  }

  /** Since the last call. */
  lap(): Sample {
    const now = this.#look();
    const from = this.#start;
    this.#start = now;
    return {
      ns: now.ns - from.ns,
      frames: now.frames - from.frames,
      bytes: now.bytes - from.bytes,
      cpu: now.cpu - from.cpu,
      waited: now.waited - from.waited,
      ownWait: now.ownWait - from.ownWait,
    };
  }

  #look(): Sample {
    const { cpu, waited } = processCpu(this.#bench.switchPid);
    const own = processCpu(process.pid);
    return {
      ns: performance.now() * 1e6,
      frames: this.#ports.reduce((sum, port) => sum + port.received, 0),
      bytes: this.#ports.reduce((sum, port) => sum + port.bytes, 0),
      cpu,
      waited,
      ownWait: own.waited,
    };
  }
}

/**
 * Rates of many short windows. Where other processes take the cores away now and then, the best of them show what
 * producer, switch and consumer do while they all run.
 */
class Moments {
  readonly #port: BenchPort;
  readonly #rates = new Float64Array(MAX_MOMENTS);
  #count = 0;
  #since = 0;
  #received = 0;

  constructor(port: BenchPort) {
    this.#port = port;
  }

  restart(): void {
    this.#count = 0;
    this.#since = 0;
  }

  look(): void {
    const now = performance.now();
    const ms = now - this.#since;
    if (ms < MOMENT_MS) return;
    // What took much longer was no moment.
    if (ms < 2 * MOMENT_MS && this.#count < MAX_MOMENTS)
      this.#rates[this.#count++] = (this.#port.received - this.#received) / (ms * 1e3);
    this.#since = now;
    this.#received = this.#port.received;
  }

  /** Frames per microsecond that so great a share of the moments did not exceed; 0: there were none. */
  best(share: number): number {
    const sorted = this.#rates.slice(0, this.#count).sort();
    return sorted[Math.floor(this.#count * share)] ?? 0;
  }
}

/** One stream from port to port, as fast as it goes: some windows of time, and more until so many frames have passed. */
async function bulk(bench: Bench, parameters: Parameters): Promise<Result> {
  const { windows = 8, windowMs = 500, batch = 64, warmMs = 1500, frames = 0 } = parameters;
  const { from, to, window } = await openPair(bench, parameters);
  const moments = new Moments(to);
  const step = (): boolean => {
    const progress = from.reclaim() + send(from, to, window, batch);
    moments.look();
    return progress + to.consume(2 * batch) > 0;
  };
  const lasting = async (ms: number): Promise<void> => {
    const end = performance.now() + ms;
    let looks = 0;
    await run(step, () => (++looks & 15) === 0 && performance.now() > end);
  };
  await lasting(warmMs);
  moments.restart();
  const meter = new Meter(bench, [to]);
  const laps: Sample[] = [];
  const first = to.received;
  for (let n = 0; n < windows || to.received - first < frames; n++) {
    await lasting(windowMs);
    laps.push(meter.lap());
  }
  const rates = laps.map(({ frames, ns }) => (frames * 1e3) / ns);
  const sum = (key: keyof Sample): number => laps.reduce((total, lap) => total + lap[key], 0);
  await drain(from, to);
  return {
    mpps: median(rates),
    best: Math.max(...rates),
    worst: Math.min(...rates),
    undisturbed: moments.best(0.99),
    gbps: median(laps.map(({ bytes, ns }) => bytes / ns)),
    gbpsBest: Math.max(...laps.map(({ bytes, ns }) => bytes / ns)),
    frames: sum('frames'),
    cpuPerPacket: sum('cpu') / sum('frames'),
    switchWaited: sum('waited') / sum('ns'),
    clientWaited: sum('ownWait') / sum('ns'),
  };
}

/** Everything that was sent must have come in: what is missing is an error. */
async function drain(from: BenchPort, to: BenchPort): Promise<void> {
  await settle([from, to]);
  if (to.expected !== from.next) to.errors += 1;
}

/**
 * CPU of the switch per packet, for a driver on the same core: it runs when the driver has nothing to do, and its
 * waiting costs nothing. `ports` exist; `batch` frames are sent and waited for; `macs` addresses in turn on each side.
 */
async function cost(bench: Bench, parameters: Parameters): Promise<Result> {
  const { ports = 2, macs = 2, batch = 128, flood = 0, warmMs = 700, windowMs = 1500 } = parameters;
  const { from, to } = await openPair(bench, parameters);
  const others: BenchPort[] = [];
  for (let n = 2; n < ports; n++)
    others.push(await bench.open({ queueSize: 128, frame: 64, rxBuffer: 128, large: false }));
  const receivers = flood ? [to, ...others] : [to];
  await settle(bench.ports);
  const addresses = makeAddresses(from, to, macs);
  await teach(addresses, from, to, bench);
  from.prepare(flood ? new Uint8Array(6).fill(0xff) : to.mac, parameters.frame ?? 64);
  let turnOf = 0;
  const pass = async (ms: number): Promise<void> => {
    const end = performance.now() + ms;
    const step = (): boolean => {
      let progress = from.reclaim();
      if (from.inFlight === 0 && receivers.every(({ expected }) => expected === from.next)) {
        if (macs > 2) turnOf = addresses.use(batch, turnOf);
        progress += from.produce(batch);
        from.flush();
      }
      for (const port of receivers) progress += port.consume(port.rx.size);
      return progress > 0;
    };
    await run(step, () => performance.now() > end);
  };
  await pass(warmMs);
  const meter = new Meter(bench, [to]);
  const samples: number[] = [];
  for (let n = 0; n < 5; n++) {
    await pass(windowMs / 5);
    const { cpu, frames } = meter.lap();
    samples.push(cpu / frames);
  }
  await settle(bench.ports);
  return { cpuPerPacket: median(samples), best: Math.min(...samples) };
}

interface Addresses {
  readonly source: readonly Uint8Array[];
  readonly target: readonly Uint8Array[];
  /** Gives the next `count` frames to be sent the next addresses, beginning with the n-th. */
  use(count: number, n: number): number;
}

function makeAddresses(from: BenchPort, to: BenchPort, macs: number): Addresses {
  const perSide = Math.max(1, macs >> 1);
  const series = (own: Uint8Array, side: number): Uint8Array[] =>
    Array.from({ length: perSide }, (_, n) =>
      perSide === 1 ? own : Uint8Array.of(2, 0, side, 0, n >> 8, n & 0xff),
    );
  const [source, target] = [series(from.mac, 1), series(to.mac, 2)];
  return {
    source,
    target,
    use(count, first) {
      for (let n = 0; n < count; n++) {
        const index = (first + n) % perSide;
        from.nextAddress(n, target[index] as Uint8Array, source[index] as Uint8Array);
      }
      return (first + count) % perSide;
    },
  };
}

/** One frame from every address, so that nothing is flooded later. */
async function teach(
  { source, target }: Addresses,
  from: BenchPort,
  to: BenchPort,
  bench: Bench,
): Promise<void> {
  for (let n = 0; n < source.length; n++) {
    from.hello(source[n] as Uint8Array);
    to.hello(target[n] as Uint8Array);
    if (n % 32 === 31) await settle(bench.ports);
  }
  await settle(bench.ports);
}

/** Round trips of a single frame: the driver sends it back as soon as it sees it. `pauseMs` lets the switch fall asleep. */
async function pingPong(bench: Bench, parameters: Parameters): Promise<Result> {
  const { count = 20_000, warm = 5_000, pauseMs = 0, beside = 0, besideFrame = 1514 } = parameters;
  const { from, to } = await openPair(bench, { frame: 64 });
  const stream = beside ? await openPair(bench, { frame: besideFrame }) : undefined;
  const times = new Float64Array(count);
  let done = -warm;
  let sent = 0;
  let waiting = false;
  let next = 0;
  const step = (): boolean => {
    let progress = 0;
    if (stream) {
      progress += stream.from.reclaim() + send(stream.from, stream.to, stream.window, 32);
      progress += stream.to.consume(32);
    }
    const now = performance.now();
    if (!waiting && now >= next) {
      from.reclaim();
      from.produce(1);
      from.flush();
      sent = now;
      waiting = true;
    }
    if (to.consume(1) > 0) {
      to.reclaim();
      to.produce(1);
      to.flush();
    }
    if (waiting && from.consume(1) > 0) {
      const end = performance.now();
      if (done >= 0) times[done] = end - sent;
      done += 1;
      waiting = false;
      next = pauseMs > 0 ? end + pauseMs : 0;
      return true;
    }
    return progress > 0;
  };
  const meter = new Meter(bench, stream ? [stream.to] : []);
  await run(step, () => done >= count);
  const { frames, ns } = meter.lap();
  if (stream) await drain(stream.from, stream.to);
  times.sort();
  const at = (share: number): number => (times[Math.floor(count * share)] as number) * 1000;
  return { p50: at(0.5), p99: at(0.99), p999: at(0.999), besideMpps: (frames * 1e3) / ns };
}

/** Two senders that always have frames, each to a receiver of its own; the first has a larger ring and larger frames. */
async function fairness(bench: Bench, parameters: Parameters): Promise<Result> {
  const { frame = 1514, ms = 2000 } = parameters;
  const big = await openPair(bench, { frame });
  const small = await openPair(bench, { frame: 64 });
  const step = (): boolean => {
    let progress = 0;
    for (const { from, to, window } of [big, small])
      progress += from.reclaim() + send(from, to, window, window) + to.consume(window);
    return progress > 0;
  };
  const lasting = async (duration: number): Promise<void> => {
    const end = performance.now() + duration;
    let looks = 0;
    await run(step, () => (++looks & 15) === 0 && performance.now() > end);
  };
  await lasting(ms / 2);
  const before = [big.to.received, small.to.received] as const;
  await lasting(ms);
  const counts = [big.to.received - before[0], small.to.received - before[1]] as const;
  await drain(big.from, big.to);
  await drain(small.from, small.to);
  return { share: counts[1] / (counts[0] + counts[1]), mpps: (counts[0] + counts[1]) / (ms * 1e3) };
}

/** Ports that are set up and silent; says so and stays until its input ends. */
async function idle(bench: Bench, { ports = 256 }: Parameters): Promise<Result> {
  for (let n = 0; n < ports; n++)
    await bench.open({ queueSize: 256, frame: 1514, rxBuffer: RX_BUFFER, large: false });
  console.log(JSON.stringify({ ready: ports }));
  await new Promise((resolve) => {
    process.stdin.resume();
    process.stdin.once('end', resolve);
  });
  return {};
}

export const SCENARIOS: ReadonlyMap<string, (bench: Bench, parameters: Parameters) => Promise<Result>> =
  new Map(Object.entries({ bulk, cost, pingPong, fairness, idle }));
