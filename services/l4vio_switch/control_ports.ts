/**
 * Ports that the user makes and takes away while the switch runs (`l4lab port`), and programs that are started on
 * them through our parent.
 *
 * Such a port has no holder: it stays until it is removed, or, if it was made for a program, until that one ends.
 */
import type { Capability } from '#common/ipc/capability';
import { L4Error, toL4Error } from '#common/ipc/errors';
import type { Gate } from '#common/ipc/gate';
import type { ObjectJournal } from '#common/journal/object_journal';
import type { l4lab as m } from '../../proto/gen/messages.js';
import { findPort } from './control_port_names.ts';
import type { PortExtras } from './control_stats.ts';
import { PORT } from './factory.ts';
import { parsePortArguments } from './factory_args.ts';
import type { Log } from './log.ts';
import { formatMac } from './mac_address.ts';
import type { Port } from './port_list.ts';
import type { Switch } from './switch.ts';

/** How a program gets to run. */
export interface ProgramStarter {
  /** Starts it with the port as its capability `virtnet`. Throws L4Error. */
  start(port: Capability, program: m.IProgramRequest): Promise<StartedProgram>;
}

export interface StartedProgram {
  readonly name: string;
  readonly ended: Promise<unknown>;
}

interface OwnPort {
  readonly capability: Capability;
  readonly persistent: boolean;
  /** A program is being started, or runs. */
  busy: boolean;
  task: string;
}

export class ControlPorts {
  readonly #lan: Switch;
  readonly #log: Log;
  readonly #starter: ProgramStarter | undefined;
  readonly #own = new Map<number, OwnPort>();
  #gate: Gate | undefined;
  #journal: Pick<ObjectJournal, 'memo'> | undefined;

  constructor(lan: Switch, log: Log, starter: ProgramStarter | undefined) {
    this.#lan = lan;
    this.#log = log;
    this.#starter = starter;
    lan.onRemoval((number) => this.#own.delete(number));
  }

  /** The gate behind which ports are, and where they are kept for the next life of the switch. */
  serveFrom(gate: Gate, journal?: Pick<ObjectJournal, 'memo'>): void {
    this.#gate = gate;
    this.#journal = journal;
  }

  /** A port of an earlier life of the switch is there again; the program that ran on it has ended with that. */
  adopt(number: number, capability: Capability): void {
    this.#own.set(number, { capability, persistent: true, busy: false, task: '' });
  }

  extras(number: number): PortExtras {
    const own = this.#own.get(number);
    return { persistent: own?.persistent ?? false, task: own?.task ?? '' };
  }

  /** Makes a port. Throws L4Error as the factory does; EAGAIN as long as the switch is starting. */
  async add(args: readonly string[], program: m.IProgramRequest | null | undefined): Promise<m.IPortReply> {
    if (!this.#gate) {
      throw new L4Error(
        'EAGAIN',
        'Cannot create port as the switch is still starting: it waits for its NIC; try again, or look at its log',
      );
    }
    const request = { type: PORT, arguments: args.map((text) => ({ text })), persistent: true };
    const spec = parsePortArguments(request.arguments);
    const clash = this.#lan.ports.all().find(({ name }) => spec.name !== '' && name === spec.name);
    if (clash) {
      throw new L4Error(
        'EEXIST',
        `Cannot create port '${clash.name}' as its name must not be in use: port ${clash.number} has it`,
        { code: 'VSWITCH_PORT_NAME' },
      );
    }
    const before = new Set(this.#lan.ports.all());
    // A port goes with its program, which goes with the switch.
    const memo = program ? undefined : this.#journal?.memo(request);
    const capability = this.#lan.createPort(this.#gate, spec, undefined, memo);
    const port = this.#lan.ports.all().find((other) => !before.has(other)) as Port;
    const own: OwnPort = { capability, persistent: !program, busy: false, task: '' };
    this.#own.set(port.number, own);
    if (!program) return reply(port, '');
    try {
      return reply(port, await this.#run(port, own, program));
    } catch (err) {
      // The number may be somebody else's by now.
      if (this.#own.get(port.number) === own) this.#lan.destroyPort(port.number);
      throw err;
    }
  }

  /** Takes a port away. Throws L4Error ENOENT, EPERM. */
  remove(wanted: string): m.IPortReply {
    const port = findPort(this.#lan.ports, wanted);
    const { task } = this.extras(port.number);
    if (!this.#lan.destroyPort(port.number)) {
      throw new L4Error(
        'EPERM',
        `Cannot remove port '${port.name}' as it must be a client's: this one is a ${port.kind} port that the switch was started with`,
        { code: 'VSWITCH_NIC_PORT' },
      );
    }
    this.#log.always(`Port '${port.name}' (${port.number}) was removed by the user`);
    return reply(port, task);
  }

  /** Takes the link of a port up or down. Throws L4Error ENOENT. */
  setLink(wanted: string, up: boolean): m.IPortReply {
    const port = findPort(this.#lan.ports, wanted);
    this.#lan.setLink(port.number, up);
    return { ...reply(port, this.extras(port.number).task), noCarrier: this.#lan.lacksCarrier(port.number) };
  }

  /** Starts a program on a port that `add` has made. Throws L4Error ENOENT, EPERM, EBUSY. */
  async run(wanted: string, program: m.IProgramRequest): Promise<m.IPortReply> {
    const port = findPort(this.#lan.ports, wanted);
    const own = this.#own.get(port.number);
    if (!own?.persistent) {
      throw new L4Error(
        'EPERM',
        `Cannot start a program on port '${port.name}' as it must be made with l4lab port add: this one belongs to a task of the lab`,
        { code: 'VSWITCH_PORT_HELD' },
      );
    }
    if (own.busy) {
      throw new L4Error(
        'EBUSY',
        `Cannot start a program on port '${port.name}' as one port takes one program: '${own.task}' runs on it; make another with l4lab port add`,
        { code: 'VSWITCH_PORT_HELD' },
      );
    }
    return reply(port, await this.#run(port, own, program));
  }

  async #run(port: Port, own: OwnPort, program: m.IProgramRequest): Promise<string> {
    if (port.kind === 'vxlan') {
      throw new L4Error(
        'EPERM',
        `Cannot start a program on port '${port.name}' as it must be a client's: a VXLAN port has no device`,
        { code: 'VSWITCH_PORT_HELD' },
      );
    }
    if (!this.#starter) {
      throw new L4Error(
        'ENODEV',
        `Cannot start ${program.argv?.[0]} on port '${port.name}' as the switch has no parent that starts tasks`,
      );
    }
    own.busy = true;
    try {
      const { name, ended } = await this.#starter.start(own.capability, program);
      own.task = name;
      void ended.then(
        () => this.#ended(port, own),
        (err: unknown) => {
          this.#log.error(`Lost sight of task '${name}' on port '${port.name}': ${toL4Error(err).message}`);
          this.#ended(port, own);
        },
      );
      return name;
    } catch (err) {
      own.busy = false;
      throw err;
    }
  }

  #ended({ number }: Port, own: OwnPort): void {
    own.busy = false;
    own.task = '';
    if (this.#own.get(number) !== own) return;
    if (own.persistent) this.#lan.resetPort(number);
    else this.#lan.destroyPort(number);
  }
}

function reply({ number, name, mac }: Port, task: string): m.IPortReply {
  return { number, name, mac: mac ? formatMac(mac) : '', task };
}
