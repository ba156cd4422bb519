/**
 * Object `icu`: 24 lines as an I/O APIC has them; PCI uses 16..19, level-triggered and active low.
 *
 * A line is bound to one interrupt object until it is unbound or the interrupt object is gone. The task that bound it
 * may be gone long before: Io binds for the drivers of its buses, and they must go on without it. Such a binding gives
 * way to the next one.
 */

import { L4Error } from '#common/ipc/errors';
import type { Gate } from '#common/ipc/gate';
import { type Binding, bind } from '#common/ipc/service';
import { Icu } from '../../../proto/gen/services.js';
import { NR_IRQS } from '../pci/host.ts';

const MSI = 0x8000_0000;

/** An IrqSource of services/common/shm/irq.ts. */
export interface InterruptTarget {
  setLevel(asserted: boolean): void;
  close(): void;
}

export interface IcuHost {
  /** Opens an interrupt object of a client; throws when there is none of that name. */
  open(name: string): InterruptTarget;
  isAsserted(irq: number): boolean;
}

/** Calls `onGone` once the binding task has ended; returns what stops it from doing so. */
export type Watch = (onGone: () => void) => () => void;

interface Bound {
  readonly name: string;
  readonly target: InterruptTarget;
  readonly unwatch: () => void;
  /** The task that bound it has ended. */
  orphaned: boolean;
}

export class InterruptController {
  readonly #host: IcuHost;
  readonly #bound = new Map<number, Bound>();

  constructor(host: IcuHost) {
    this.#host = host;
  }

  /** A line changed its level. */
  setLevel(irq: number, asserted: boolean): void {
    this.#bound.get(irq)?.target.setLevel(asserted);
  }

  /** Throws ENOENT (no such line), EPERM (bound already), EINVAL (no such interrupt object). */
  bind(irq: number, name: string, watch: Watch): void {
    checkIrq('bind', irq);
    const old = this.#bound.get(irq);
    if (old) {
      if (!old.orphaned && this.#isAlive(old)) {
        throw new L4Error('EPERM', `Cannot bind interrupt ${irq} as it is bound already: unbind it first`);
      }
      this.#release(irq);
    }
    const target = this.#host.open(name);
    const bound: Bound = {
      name,
      target,
      unwatch: watch(() => {
        bound.orphaned = true;
      }),
      orphaned: false,
    };
    this.#bound.set(irq, bound);
    target.setLevel(this.#host.isAsserted(irq));
  }

  unbind(irq: number): void {
    checkIrq('unbind', irq);
    if (!this.#bound.has(irq)) {
      throw new L4Error('ENOENT', `Cannot unbind interrupt ${irq} as nothing is bound to it`);
    }
    this.#release(irq);
  }

  close(): void {
    for (const irq of [...this.#bound.keys()]) this.#release(irq);
  }

  #isAlive(bound: Bound): boolean {
    try {
      this.#host.open(bound.name).close();
      return true;
    } catch {
      return false;
    }
  }

  #release(irq: number): void {
    const bound = this.#bound.get(irq);
    this.#bound.delete(irq);
    bound?.unwatch();
    bound?.target.close();
  }
}

/** The services of the gate `icu`. */
export function icuObject(controller: InterruptController, gate: Gate): Binding[] {
  // A task's end shows at the objects that only it holds: each binding has one.
  const watchTask = (task: string): Watch => {
    return (onGone) => {
      const token = gate.export([], { holder: task, onGone });
      return () => gate.destroy(token);
    };
  };
  return [
    bind(Icu, {
      info: () => ({ features: 0, nrIrqs: NR_IRQS, nrMsis: 0 }),
      bind: ({ irq, object }, { task }) => {
        controller.bind(irq, object?.name ?? '', watchTask(task));
        return { unmaskViaIcu: 0 };
      },
      unbind: ({ irq }) => {
        controller.unbind(irq);
        return {};
      },
      msiInfo: () => {
        throw new L4Error(
          'ENODEV',
          'Cannot give MSI address as no device of this machine has MSIs: use INTx',
        );
      },
      setMode: ({ irq }) => {
        checkIrq('set mode of', irq);
        return {};
      },
      unmask: ({ irq }) => {
        checkIrq('unmask', irq);
        return {};
      },
      mask: () => {
        throw new L4Error('ENOSYS', 'Cannot mask an interrupt here: mask the interrupt object');
      },
    }),
  ];
}

function checkIrq(what: string, irq: number): void {
  if (irq < NR_IRQS) return;
  const hint = irq >= MSI ? 'the machine has no MSIs' : `its interrupts are 0..${NR_IRQS - 1}`;
  throw new L4Error('ENOENT', `Cannot ${what} interrupt 0x${irq.toString(16)} as there is none: ${hint}`);
}
