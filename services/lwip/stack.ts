/**
 * The one lwIP of this process, on the Node thread.
 *
 * lwIP's callbacks only note what happened (`markDirty`); no program code runs below C. Whoever drives lwIP
 * (a netif after a batch of frames, the timer, a socket call) ends with `settle()`: acknowledgements go out,
 * every netif's transmit queue is kicked once, and then the programs hear of it.
 *
 *     frames -> Netif.receive -> ethernet_input -> recv/sent/err callbacks -> dirty list -> settle() -> 'data'
 */
import { randomBytes } from 'node:crypto';
import type { Memory } from '#common/memory';
import { formatIpv4 } from '#common/wire/ipv4';
import { ActivePcbs } from './active_pcbs.ts';
import { type Ffi, loadLwip } from './ffi.ts';
import { drawFirstPort } from './first_port.ts';
import { collectRarely } from './garbage.ts';
import { IP_ADDR, PBUF } from './layout.ts';
import { selfTest } from './self_test.ts';
import { TimeWait } from './time_wait.ts';
import { StackTimers } from './timers.ts';

/** Memory whose native address is known and from which pieces can be taken: the Arena of #common/shm. */
export interface NativeMemory extends Memory {
  /** Native address of byte 0. */
  readonly address: number;
  /** Zeroed memory of this process, page aligned; returns its offset. */
  mapPrivate(size: number): number;
}

/** Something that lwIP calls back for: a connection, a listener, a UDP socket. */
export interface Callee {
  onRecv?(pbuf: number, err: number): number;
  onSent?(length: number): void;
  onConnected?(): void;
  onError?(err: number): void;
  onAccept?(pcb: number, err: number): number;
  onDatagram?(pbuf: number, address: number, port: number): void;
  /** The interface with this IPv4 address is dead. */
  onInterfaceFailed?(ip: string): void;
}

/** Has news for its program. */
export interface Dirty {
  /** Before the transmit queues are kicked: acknowledge what was taken. */
  acknowledge(): void;
  /** Tells the program. May call anything. */
  deliver(): void;
}

/** What the stack knows of a network interface. */
export interface StackNetif {
  /** Native address of the struct netif. */
  readonly address: number;
  /** lwIP sends the frame in `pbuf`. Returns an err_t. */
  linkOutput(pbuf: number): number;
  /** True when the pbuf (a native address) describes one of our receive buffers. */
  ownsPbuf(pbuf: number): boolean;
  /** Nobody needs this receive buffer any more. */
  recycle(pbuf: number): void;
  /** Kicks the device when frames were queued. */
  flush(): void;
}

/** Offsets of scratch memory that every FFI call may use for its arguments and results. */
interface Scratch {
  /** Three `ip_addr_t`. */
  readonly ip: number;
  readonly ip2: number;
  readonly ip3: number;
  /** A copy of a pbuf header, and a pointer-sized zero behind it. */
  readonly pbuf: number;
  readonly zero: number;
  /** 64 KiB for the data of pbufs that are not ours. */
  readonly stage: number;
}

const STAGE_BYTES = 65536;
const SCRATCH_BYTES = 4096;

export class Stack {
  static #instance: Stack | undefined;

  readonly ffi: Ffi;
  readonly memory: NativeMemory;
  readonly timers: StackTimers;
  readonly timeWait: TimeWait;
  /** All of `memory` as a Node buffer: `copy` from it is the cheapest way out. */
  readonly bytes: Buffer;
  readonly scratch: Scratch;
  /** Native addresses of the callbacks, by their lwIP names. */
  readonly callbacks: Readonly<
    Record<
      | 'netifInit'
      | 'linkOutput'
      | 'customFree'
      | 'recv'
      | 'sent'
      | 'connected'
      | 'accept'
      | 'err'
      | 'udpRecv',
      number
    >
  >;
  readonly netifs: StackNetif[] = [];
  readonly #pcbs: ActivePcbs;
  readonly #callees = new Map<number, Callee>();
  #lastId = 0;
  #dirty: Dirty[] = [];
  #spare: Dirty[] = [];
  #scheduled = false;
  #settling = false;
  #refs = 0;
  #keepAlive: NodeJS.Timeout | undefined;

  /** The stack of this process. lwIP's state is global: every later call must bring the same memory. */
  static open(memory: NativeMemory): Stack {
    Stack.#instance ??= new Stack(memory);
    if (Stack.#instance.memory !== memory) {
      throw new Error(
        'Cannot open a second TCP/IP stack as lwIP has one state per process: use the first one',
      );
    }
    return Stack.#instance;
  }

  private constructor(memory: NativeMemory) {
    collectRarely();
    this.memory = memory;
    this.ffi = loadLwip();
    this.bytes = Buffer.from(memory.buffer);
    this.scratch = takeScratch(memory);
    // lwIP takes its first local port from rand(): unseeded, every process would use the same ones.
    this.ffi.srand(randomBytes(4).readUInt32LE());
    this.ffi.lwip_init();
    drawFirstPort(this.ffi, memory, this.scratch.stage);
    selfTest(this.ffi, memory, this.scratch.stage);
    this.#randomizeSequence();
    this.callbacks = this.#registerCallbacks();
    this.#pcbs = new ActivePcbs(this.ffi, memory, this.scratch.stage);
    this.timeWait = new TimeWait(this.ffi, memory, this.scratch.stage);
    this.timers = new StackTimers(
      this.ffi,
      () => this.#pcbs.endVainProbes(),
      () => this.settle(),
    );
  }

  /** The sequence numbers of new connections grow with tcp_ticks: let it start anywhere. */
  #randomizeSequence(): void {
    const ticks = new Uint32Array(this.ffi.view(this.ffi.symbol('tcp_ticks'), 4));
    ticks[0] = randomBytes(4).readUInt32LE() >>> 1;
  }

  #registerCallbacks(): Stack['callbacks'] {
    const { ffi } = this;
    const of = (id: number): Callee | undefined => this.#callees.get(id);
    return {
      netifInit: ffi.callback('netifInit', () => 0),
      linkOutput: ffi.callback('linkOutput', (netif, p) => this.#netifAt(netif as number, p as number)),
      customFree: ffi.callback('customFree', (p) => {
        this.ownerOf(p as number)?.recycle(p as number);
        return undefined;
      }),
      recv: ffi.callback('recv', (id, _pcb, p, err) => {
        const callee = of(id as number);
        if (callee?.onRecv) return callee.onRecv(p as number, err as number);
        if (p !== 0) ffi.pbuf_free(p as number);
        return 0;
      }),
      sent: ffi.callback('sent', (id, _pcb, length) => {
        of(id as number)?.onSent?.(length as number);
        return 0;
      }),
      connected: ffi.callback('connected', (id) => {
        of(id as number)?.onConnected?.();
        return 0;
      }),
      err: ffi.callback('err', (id, err) => {
        of(id as number)?.onError?.(err as number);
        return undefined;
      }),
      accept: ffi.callback(
        'accept',
        (id, pcb, err) => of(id as number)?.onAccept?.(pcb as number, err as number) ?? -6,
      ),
      udpRecv: ffi.callback('udpRecv', (id, _pcb, p, address, port) => {
        of(id as number)?.onDatagram?.(p as number, address as number, port as number);
        ffi.pbuf_free(p as number);
        return undefined;
      }),
    };
  }

  #netifAt(address: number, pbuf: number): number {
    for (const netif of this.netifs) if (netif.address === address) return netif.linkOutput(pbuf);
    return -12;
  }

  /** Registers for callbacks; the id goes to lwIP as the callback argument. */
  register(callee: Callee): number {
    const id = ++this.#lastId;
    this.#callees.set(id, callee);
    return id;
  }

  unregister(id: number): void {
    this.#callees.delete(id);
  }

  /** Notes that `who` has news; delivered by the next `settle`, or from the event loop when none is under way. */
  markDirty(who: Dirty): void {
    this.#dirty.push(who);
    if (this.#scheduled) return;
    this.#scheduled = true;
    setImmediate(this.#onImmediate);
  }

  readonly #onImmediate = (): void => {
    this.#scheduled = false;
    if (this.#dirty.length > 0) this.settle();
  };

  /** Ends a batch of work on lwIP: acknowledge, kick the transmit queues, tell the programs. */
  settle(): void {
    if (this.#settling) return;
    this.#settling = true;
    try {
      const dirty = this.#dirty;
      if (dirty.length > 0) {
        this.#dirty = this.#spare;
        for (const who of dirty) who.acknowledge();
      }
      this.flush();
      if (dirty.length === 0) return;
      for (const who of dirty) this.#deliver(who);
      dirty.length = 0;
      this.#spare = dirty;
      this.flush();
    } finally {
      this.#settling = false;
    }
  }

  /** One program's exception must not cost the others their news. */
  #deliver(who: Dirty): void {
    try {
      who.deliver();
    } catch (err) {
      setImmediate(() => {
        throw err;
      });
    }
  }

  /** Kicks every netif that has queued frames; each socket call ends with it. */
  flush(): void {
    for (const netif of this.netifs) netif.flush();
  }

  /** The netif whose receive buffer this pbuf describes; undefined for lwIP's own pbufs. */
  ownerOf(pbuf: number): StackNetif | undefined {
    for (const netif of this.netifs) if (netif.ownsPbuf(pbuf)) return netif;
    return undefined;
  }

  /** A frame comes, which `opens` a connection or does not look as if. */
  heard(opens: boolean): void {
    this.#pcbs.heard(opens);
  }

  /** There is room for frames again: everybody whose output was refused tries once more. */
  retryOutput(): void {
    this.#pcbs.output();
  }

  /** Frames from peers were probably lost: everybody who waits for an acknowledgement asks for it. */
  askPeers(): void {
    this.#pcbs.ask();
    this.flush();
  }

  /** Ends what runs over the interface with this address. */
  interfaceFailed(ip: number): void {
    const address = formatIpv4(ip);
    for (const callee of [...this.#callees.values()]) callee.onInterfaceFailed?.(address);
  }

  /** Keeps the process alive until the matching `unref`. */
  ref(): void {
    if (this.#refs++ === 0) this.#keepAlive = setInterval(() => {}, 2 ** 31 - 1);
  }

  unref(): void {
    if (--this.#refs === 0) clearInterval(this.#keepAlive);
  }
}

function takeScratch(memory: NativeMemory): Scratch {
  const ip = memory.mapPrivate(SCRATCH_BYTES + STAGE_BYTES);
  const pbuf = ip + 4 * IP_ADDR.SIZE;
  return {
    ip,
    ip2: ip + IP_ADDR.SIZE,
    ip3: ip + 2 * IP_ADDR.SIZE,
    pbuf,
    zero: pbuf + PBUF.CUSTOM_SIZE,
    stage: ip + SCRATCH_BYTES,
  };
}
