/**
 * A switch with two clients that behave and some that do not, in one memory: the switch's own forwarder, scheduler, ports and
 * queues, without processes. Everything that happens follows from numbers, so that it can happen again.
 *
 * `check` holds after every step, whatever the hostile clients did: see README.md.
 */
import { DROP_REASONS } from '#common/capture/drop_reasons';
import { Random } from '#common/testing/random';
import { VirtioError } from '#common/virtio/errors';
import { F_INDIRECT_DESC, featureSet, NET_F_MRG_RXBUF } from '#common/virtio/features';
import { Scheduler } from '#common/vnet/scheduler';
import { SCRATCH_BYTES } from '#common/vnet/virtio_port';
import { Forwarder, type ForwardSpec } from '../../services/l4vio_switch/forward.ts';
import { Log } from '../../services/l4vio_switch/log.ts';
import { MacTable } from '../../services/l4vio_switch/mac_table.ts';
import { GoodClient, MAGIC, numberedFrame, WINDOW } from './good_client.ts';
import { HookedMemory } from './hooked_memory.ts';
import { HONEST_KINDS, Hostile, KINDS } from './hostile.ts';
import { BUFFERS, GUARD, PLOT_BYTES, Plot, RW_BASE } from './plot.ts';
import { FuzzPort } from './port.ts';
import { TARGET_BYTES, TunnelTarget } from './tunnel_target.ts';

/** Ports 0 and 1 are the good ones. */
const GOOD = 2;
/** Operations of hostile clients while the switch runs, for each time that it does. */
const MEANWHILE = 64;
/** Turns of the pump after which there must be peace: more than all rings and `MEANWHILE` can keep it busy. */
const MAX_TURNS = 2000;
const PAGE = 4096;
const SIZES = [1, 2, 4, 8, 16, 32, 64, 64];
const USUAL = featureSet(F_INDIRECT_DESC, NET_F_MRG_RXBUF).lo;

/** What a hostile port may be. In an isolated world nobody but the good pair is in VLAN 7. */
const ROLES: readonly [ForwardSpec, ...ForwardSpec[]] = [
  { access: 8 },
  { access: 8 },
  { trunk: [8, 9] },
  {
    access: 9,
    rateIn: { bitsPerSecond: 1e9, burst: 20_000 },
    rateOut: { bitsPerSecond: 1e9, burst: 20_000 },
  },
  { access: 8, storm: { broadcast: 1000, multicast: 10, unknown: 5000 } },
  { mirror: true },
  { mirror: true, filter: [0x0800, 0x86dd] },
];
const SHARED_ROLES: readonly [ForwardSpec, ...ForwardSpec[]] = [
  {},
  { trunk: 'all' },
  { access: 7 },
  ...ROLES,
];

export interface WorldOptions {
  readonly hostiles: number;
  /** Hostile clients have no way to the VLAN of the good pair: not a frame between these may be lost. */
  readonly isolated: boolean;
  /** There is a VXLAN port, too, which the good pair has nothing to do with. */
  readonly tunnel?: boolean;
  /** Feature bits that the good clients ask for. */
  readonly features: number;
  readonly seed: number;
}

export class World {
  /** Hostile operations so far. */
  operations = 0;
  readonly #options: WorldOptions;
  readonly #memory: HookedMemory;
  readonly #forwarder: Forwarder;
  readonly #scheduler: Scheduler;
  readonly #ports: FuzzPort[];
  readonly #good: readonly [GoodClient, GoodClient];
  readonly #hostiles: Hostile[];
  readonly #spies = new Set<number>();
  readonly #random: Random;
  #time = 0;
  #number = 0;
  /** Operations left for this turn, and reads until the next one. */
  #meanwhile = 0;
  #until = 1;
  #running = false;
  /** Kinds of operations that break rules and are used at present, one bit each. */
  #lies = 0;

  constructor(options: WorldOptions) {
    this.#options = options;
    this.#random = new Random(options.seed);
    const count = GOOD + options.hostiles;
    const scratch = count * PLOT_BYTES;
    const target = scratch + count * SCRATCH_BYTES;
    this.#memory = new HookedMemory(target + (options.tunnel ? TARGET_BYTES : 0));
    const memory = this.#memory;
    const log = new Log({ out: () => {}, err: () => {} });
    const clock = () => (this.#time += 0.1);
    this.#forwarder = new Forwarder(count + 1, log, { macs: new MacTable(16), clock });
    this.#scheduler = new Scheduler(this.#forwarder);
    this.#ports = Array.from({ length: count }, (_, number) => {
      const plot = new Plot(memory, number);
      const onDeliver = () => this.#interfere();
      const forwarder = this.#forwarder;
      return new FuzzPort({
        memory,
        forwarder,
        number,
        plot,
        scratch: scratch + number * SCRATCH_BYTES,
        onDeliver,
      });
    });
    if (options.tunnel)
      new TunnelTarget(memory, target, this.#forwarder, count, () => [GUARD, ...this.#secretsFrom(count)]);
    this.#hostiles = this.#ports.slice(GOOD).map(({ plot, number }) => new Hostile(memory, plot, number));
    const [one, two] = this.#ports.slice(0, GOOD).map((port) => new GoodClient(memory, port));
    this.#good = [one as GoodClient, two as GoodClient];
    for (const { port } of this.#good) port.connect(options.isolated ? { access: 7 } : {}, false);
    for (const client of this.#good) client.start(options.features);
    for (let n = 0; n < options.hostiles; n++) this.remake(n, this.#random.u32());
    memory.onRead = () => this.#interfere();
  }

  /** One operation of a hostile client. */
  act(hostile: number, kind: number, a: number, b: number, c: number): void {
    this.operations += 1;
    this.#hostiles[hostile % this.#hostiles.length]?.act(kind, a, b, c);
  }

  /**
   * `count` operations of one hostile client and of those that it sends to. It kicks now and then; who was stopped starts
   * anew. Each burst has favourite lies of its own: with all of them at once none would get far.
   */
  burst(hostile: number, seed: number, count: number): void {
    const random = new Random(seed);
    this.#lies = random.u32() & random.u32() & random.u32();
    for (let n = 0; n < count; n++) {
      const who = random.oneIn(2) ? hostile : random.below(this.#hostiles.length);
      this.act(who, this.#kind(random), random.u32(), random.u32(), random.u32());
      if (!random.oneIn(8)) continue;
      this.kick(hostile);
      this.run();
      for (let other = 0; other < this.#hostiles.length; other++)
        if (!this.#portOf(other).running) this.restart(other, random.u32(), random.u32());
    }
  }

  /** An operation that is honest, or one of the present lies. */
  #kind(random: Random): number {
    const kind = random.below(KINDS);
    return kind < HONEST_KINDS || (this.#lies & (1 << kind)) !== 0 ? kind : random.below(HONEST_KINDS);
  }

  kick(hostile: number): void {
    this.#scheduler.activate(this.#portOf(hostile).number);
  }

  /** A hostile client resets its device and sets it up again, with any features and queue size, or with queues that are none. */
  restart(hostile: number, a: number, features: number): void {
    const port = this.#portOf(hostile);
    const size = SIZES[a % 8] as number;
    // Most know indirect tables and mergeable buffers: there is more to go wrong.
    const wanted = features | ((a & 0x300) !== 0 ? USUAL : 0);
    const used = RW_BASE + (a % (BUFFERS * 2));
    const odd = [0, 1].map((n) => ({
      size: (a >>> 4) % 130,
      desc: used & ~15,
      avail: used ^ n,
      used: used + n * 4096,
    }));
    try {
      if (a % 16 === 15) port.start(size, wanted, odd);
      else port.start(size, wanted);
    } catch (err) {
      if (!(err instanceof VirtioError)) throw err;
    }
    this.#hostiles[hostile % this.#hostiles.length]?.setSize(size);
    this.kick(hostile);
  }

  /** A hostile port goes, and comes again as another one; what looks at others looks at all of them. */
  remake(hostile: number, a: number): void {
    const port = this.#portOf(hostile);
    const { number } = port;
    const roles = this.#options.isolated ? ROLES : SHARED_ROLES;
    const role = roles[a % roles.length] as ForwardSpec;
    const spy = role.mirror !== undefined;
    this.#scheduler.forget(number);
    // What a hostile driver of a NIC does, which is a client as well.
    port.connect(role, spy, !spy && a >>> 29 === 7);
    if (spy) this.#spies.add(number);
    else this.#spies.delete(number);
    for (const other of this.#ports)
      this.#forwarder.mirror(other.number, this.#spies.has(other.number) ? [] : [...this.#spies]);
    this.restart(hostile, a & ~15, this.#random.u32());
  }

  /** The link of a hostile port. */
  link(hostile: number, up: boolean): void {
    this.#forwarder.setLink(this.#portOf(hostile).number, up);
  }

  /** A hostile client registers a further window of its memory, anywhere. */
  register(hostile: number, a: number, b: number): void {
    const { regions, plot } = this.#portOf(hostile);
    const base = a % 3 === 0 ? RW_BASE - PAGE * (b % 40) : b * 2 ** (a % 24);
    const size = PAGE * (1 + ((a >>> 8) % 8));
    try {
      regions.add(base, size, plot.rw + PAGE * ((a >>> 16) % 8), (a & 1) === 0);
    } catch (err) {
      if (!(err instanceof VirtioError)) throw err;
    }
  }

  /** The good pair exchanges `count` frames in each direction, while everything else goes on. */
  exchange(count: number, length: number): void {
    const [one, two] = this.#good;
    for (const [from, to] of [
      [one, two],
      [two, one],
    ] as const) {
      const frames = Array.from({ length: Math.min(count, WINDOW) }, (_, n) =>
        numberedFrame(from.port.number, to.port.number, this.#number++, 60 + ((length + n * 97) % 1400)),
      );
      for (const frame of frames) if (from.send(frame)) this.#scheduler.activate(from.port.number);
      this.run();
      const came = to.receive();
      // In one network with them, others may take addresses over and fill queues.
      if (this.#options.isolated) expectSame(came, frames);
    }
  }

  /** Lets the switch work until it sleeps. */
  run(): void {
    this.#meanwhile = MEANWHILE;
    this.#running = true;
    let turns = 0;
    do {
      while (this.#scheduler.poll())
        if (++turns > MAX_TURNS) throw new Error('the switch does not come to rest');
    } while (this.#scheduler.arm() && ++turns <= MAX_TURNS);
    this.#running = false;
    if (turns > MAX_TURNS) throw new Error('the switch does not go to sleep');
  }

  /** Throws when a promise of the switch is broken. */
  check(): void {
    for (const { plot, number } of this.#ports) {
      plot.check();
      plot.checkUnseen(this.#secretsFrom(number));
    }
    for (const port of this.#ports) port.checkCounters();
    if (this.#good.some(({ port }) => !port.running))
      throw new Error('a port that kept all rules was stopped');
    this.#checkBalance();
  }

  /** What a port must never see. */
  #secretsFrom(number: number): Buffer[] {
    const others = this.#good
      .filter(({ port }) => port.number !== number)
      .map(({ port }) => port.plot.secret);
    const mayListen = !this.#options.isolated || number < GOOD || this.#spies.has(number);
    return mayListen ? others : [...others, MAGIC];
  }

  /** Every frame that came in went somewhere, or was counted as dropped. */
  #checkBalance(): void {
    const { counters } = this.#forwarder;
    let [came, went] = [0, 0];
    for (const { number } of this.#ports.slice(0, this.#options.isolated ? GOOD : 0)) {
      came += counters.inPackets[number] as number;
      went += counters.txPackets[number] as number;
      for (let reason = 0; reason < DROP_REASONS; reason++) went += counters.droppedFor(number, reason);
    }
    if (this.#options.isolated && came !== went)
      throw new Error(`of ${came} frames of the good pair ${went} are accounted for`);
  }

  #portOf(hostile: number): FuzzPort {
    return this.#ports[GOOD + (hostile % this.#hostiles.length)] as FuzzPort;
  }

  /** Between two reads of the switch, or between its decision and its copy: a hostile client may do something. */
  #interfere(): void {
    if (!this.#running || this.#meanwhile === 0 || --this.#until > 0) return;
    this.#meanwhile -= 1;
    const random = this.#random;
    this.#until = 1 + random.below(48);
    this.act(random.u32(), this.#kind(random), random.u32(), random.u32(), random.u32());
  }
}

function expectSame(came: readonly Buffer[], sent: readonly Buffer[]): void {
  if (came.length !== sent.length)
    throw new Error(`${sent.length} frames were sent, ${came.length} have come`);
  for (const [n, frame] of sent.entries())
    if (came[n]?.equals(frame) !== true)
      throw new Error(`frame ${n} of ${sent.length} has come changed, or not in order`);
}
