/**
 * The NIC behind a vbus, driven by a task of its own: `rom/ixl`, started through our parent with the vbus and a port
 * of the switch (F3.10).
 *
 * `start` returns when the driver has attached or it is clear that there will be no NIC; the switch serves clients
 * only then (F10.1 #7). Without a NIC the switch goes on. A driver that dies later is started again, after 0.5 s
 * and then twice as long each time up to 10 s; five deaths within a minute are enough.
 */
import type { Capability } from '#common/ipc/capability';
import { L4Error } from '#common/ipc/errors';
import type { Handlers } from '#common/ipc/service';
import { Backoff, MAX_ENDS } from '#common/task/backoff';
import type { NicPort } from '../../proto/gen/services.js';
import { MAX_NAME } from './factory_args.ts';
import type { Log } from './log.ts';
import { parseMac } from './mac_address.ts';

/** What names of ports look like, and what fits a line of the log: a driver's word is not ours. */
const DRIVER_NAME = new RegExp(`^[\\x21-\\x7e]{1,${MAX_NAME}}$`);
const MAX_REASON = 400;

/** How a task ended. */
export interface TaskEnd {
  readonly exitCode: number;
  readonly killed: boolean;
}

/** A port for one life of the driver. */
export interface NicMount {
  /** The object that the driver gets: L4virtio, Icu and NicPort. */
  readonly capability: Capability;
  /** The driver has named itself: the name of the port. Throws L4Error EEXIST when a port has that MAC. */
  identify(driver: string, mac: Uint8Array): string;
  /** The NIC has a link of that speed in Mbit/s; 0: none. */
  setLinkSpeed(speed: number): void;
  /** Takes the object away and silences the port; `free`: its number may be used by others. */
  unmount(free: boolean): void;
}

export interface NicTaskHost {
  /** How messages call it: `NIC`, or `NIC 1` where there are several. */
  readonly label?: string;
  /** Never gives up once the NIC has worked: what the driver needs is started by others, and may be away for long. */
  readonly patient?: boolean;
  /** The NIC has worked in an earlier life of the switch: a driver that fails at first is started again as well. */
  readonly again?: boolean;
  readonly log: Log;
  readonly signal: AbortSignal;
  /** Starts the driver with that port. Resolves with the id of the task. */
  startDriver(port: Capability): Promise<string>;
  /** Resolves when the task has ended. */
  waitDriver(task: string): Promise<TaskEnd>;
  /** Throws L4Error ENOMEM when there is no port left. */
  mount(handlers: Handlers<typeof NicPort>): NicMount;
  delay(ms: number): Promise<void>;
  /** Milliseconds. */
  now(): number;
}

/** How one life of the driver began. */
type Beginning =
  | { readonly kind: 'attached'; readonly end: Promise<TaskEnd> }
  | { readonly kind: 'failed' | 'ended'; readonly reason: string };

export class NicTask {
  readonly #host: NicTaskHost;
  readonly #backoff = new Backoff();
  #mount: NicMount | undefined;

  constructor(host: NicTaskHost) {
    this.#host = host;
  }

  /** Brings the NIC up. True when the port works; false (and said in the log) when there is no NIC. Never rejects. */
  async start(): Promise<boolean> {
    const beginning = await this.#begin();
    if (this.#host.signal.aborted) return false;
    if (beginning.kind === 'attached' || this.#host.again) {
      void this.#supervise(beginning);
      return true;
    }
    this.#giveUp(withoutNic(beginning.reason, this.#host.label));
    return false;
  }

  /** One life of the driver up to its first word, or its death. */
  async #begin(): Promise<Beginning> {
    this.#mount = undefined;
    try {
      let speak: (word: string | undefined) => void = () => {};
      const word = new Promise<string | undefined>((resolve) => {
        speak = resolve;
      });
      this.#mount = this.#host.mount({
        attach: ({ mac, driver, linkSpeed }) => {
          try {
            this.#attach(mac, driver, linkSpeed);
          } catch (err) {
            speak(messageOf(err));
            throw err;
          }
          speak(undefined);
          return {};
        },
        link: ({ linkSpeed }) => {
          this.#mount?.setLinkSpeed(linkSpeed);
          return {};
        },
        failed: ({ reason }) => {
          speak(oneLine(reason) || 'its driver gave no reason');
          return {};
        },
      });
      const task = await this.#host.startDriver(this.#mount.capability);
      const end = this.#host.waitDriver(task);
      const death = describeEnd(end).then((reason): Beginning => ({ kind: 'ended', reason }));
      const life = word.then((reason): Beginning => {
        return reason === undefined ? { kind: 'attached', end } : { kind: 'failed', reason };
      });
      return await Promise.race([life, death]);
    } catch (err) {
      return { kind: 'failed', reason: messageOf(err) };
    }
  }

  #attach(macText: string, driver: string, linkSpeed: number): void {
    const mac = parseMac(macText);
    if (!mac) {
      throw new L4Error(
        'EINVAL',
        `Cannot attach NIC as its MAC address must be xx:xx:xx:xx:xx:xx: current value is '${oneLine(macText)}'`,
      );
    }
    if (!DRIVER_NAME.test(driver)) {
      throw new L4Error(
        'EINVAL',
        `Cannot attach NIC as the name of its driver must be 1..${MAX_NAME} letters and signs: current value is '${oneLine(driver)}'`,
      );
    }
    const name = this.#mount?.identify(driver, mac) ?? driver;
    this.#mount?.setLinkSpeed(linkSpeed);
    sayNic(this.#host.log, name, macText, linkSpeed);
  }

  /** Starts the driver again whenever it dies. */
  async #supervise(first: Beginning): Promise<void> {
    const { log, signal, label = 'NIC' } = this.#host;
    let how = await howItEnded(first);
    while (!signal.aborted) {
      this.#mount?.unmount(false);
      const now = this.#host.now();
      const delayMs = this.#host.patient ? this.#backoff.next(now, true) : this.#backoff.next(now);
      if (delayMs === undefined) {
        return this.#giveUp(
          `${label} driver given up as ${how}, ${MAX_ENDS} times within a minute. The other ports go on`,
        );
      }
      log.error(
        `${label} is down as ${how}. The other ports go on, the driver is started again in ${delayMs} ms`,
      );
      await this.#host.delay(delayMs);
      if (signal.aborted) return;
      const beginning = await this.#begin();
      if (beginning.kind === 'attached') log.always(`${label} is back`);
      how = await howItEnded(beginning);
    }
  }

  #giveUp(message: string): void {
    this.#host.log.error(message);
    this.#mount?.unmount(true);
    this.#mount = undefined;
  }
}

/** What is said when there is no NIC; `reason` is a sentence of its own. */
export function withoutNic(reason: string, label = 'NIC'): string {
  return `The switch works without ${label === 'NIC' ? 'the NIC' : label} of 'vbus': ${reason}`;
}

/** Tells which NIC there is; `linkSpeed` in Mbit/s. */
export function sayNic(log: Log, name: string, mac: string, linkSpeed: number): void {
  log.info(
    'port',
    `NIC port '${name}' ${mac}, ${linkSpeed > 0 ? `link speed ${linkSpeed} Mbit/s` : 'link down'}`,
  );
}

/** A driver that finds its NIC taken or absent may find it the next time: what it had may still be being cleaned up. */
async function howItEnded(beginning: Beginning): Promise<string> {
  if (beginning.kind === 'attached') return describeEnd(beginning.end);
  return beginning.kind === 'ended' ? beginning.reason : `its driver failed (${beginning.reason})`;
}

async function describeEnd(end: Promise<TaskEnd>): Promise<string> {
  try {
    const { exitCode, killed } = await end;
    return killed ? 'its driver was killed' : `its driver ended with status ${exitCode}`;
  } catch (err) {
    return `its driver was lost (${messageOf(err)})`;
  }
}

/** Text of a driver, for a message. */
function oneLine(text: string): string {
  return text.slice(0, MAX_REASON).replace(/[^\x20-\x7e]+/g, ' ');
}

function messageOf(err: unknown): string {
  return err instanceof Error ? err.message : String(err);
}
