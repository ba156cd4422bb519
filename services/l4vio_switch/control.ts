/**
 * The switch as people reach it: `l4lab stats`, `capture`, `port` (proto/switch_control.proto).
 *
 * A gate of the switch's own, published in the run directory (common/control/publication.ts): whoever may enter that
 * may call it. Nothing here runs unless it is called.
 */

import { publish } from '#common/control/publication';
import { type Capability, createGate, rootCapability } from '#common/ipc/capability';
import { toL4Error } from '#common/ipc/errors';
import type { Gate } from '#common/ipc/gate';
import { bind, type Handlers } from '#common/ipc/service';
import type { ObjectJournal } from '#common/journal/object_journal';
import type { TaskEnv } from '#common/task/env';
import { Parent, SwitchControl } from '../../proto/gen/services.js';
import { Captures } from './capture.ts';
import { openCapture } from './capture_service.ts';
import { ControlPorts, type ProgramStarter } from './control_ports.ts';
import { switchStats } from './control_stats.ts';
import type { Log } from './log.ts';
import { waitTask } from './nic.ts';
import type { Switch } from './switch.ts';

export interface Control {
  /** Ports can be made from now on, behind this gate; they are kept in the journal. */
  serveFrom(gate: Gate, journal: Pick<ObjectJournal, 'memo'>): void;
  /** A port of `l4lab port add` of an earlier life of the switch is there again. */
  adopt(number: number, port: Capability): void;
  close(): void;
}

/** Publishes the control object. A switch that cannot (no space) works without, and says so. */
export async function serveControl(env: TaskEnv, lan: Switch, log: Log): Promise<Control> {
  const captures = new Captures(env.arena, lan.forwarder);
  lan.onRemoval((number) => captures.portGone(number));
  const ports = new ControlPorts(lan, log, programStarter(env));
  let publication: { close(): void } | undefined;
  try {
    const end = createGate();
    const gate = await env.ipc.serve(end);
    gate.setRoot([bind(SwitchControl, handlers(env, lan, captures, ports))]);
    publication = publish(env.runDir, env.task, {
      kind: 'switch',
      name: env.name,
      capability: rootCapability(end),
    });
  } catch (err) {
    log.error(`Statistics, captures and ports cannot be asked for: ${toL4Error(err).message}`);
  }
  return {
    serveFrom: (gate, journal) => ports.serveFrom(gate, journal),
    adopt: (number, port) => ports.adopt(number, port),
    close: () => publication?.close(),
  };
}

function handlers(
  env: TaskEnv,
  lan: Switch,
  captures: Captures,
  ports: ControlPorts,
): Handlers<typeof SwitchControl> {
  return {
    stats: () => switchStats(lan, (number) => ports.extras(number)),
    capture: (request) => openCapture(env, captures, lan.ports, request),
    addPort: ({ arguments: args, program }) => ports.add(args, program),
    removePort: ({ port }) => ports.remove(port),
    setLink: ({ port, up }) => ports.setLink(port, up),
    runOnPort: ({ port, program }) => ports.run(port, program ?? {}),
  };
}

/** Programs are tasks that our parent starts, with our own `rom`, also as `etc`: its resolv.conf. */
function programStarter(env: TaskEnv): ProgramStarter | undefined {
  if (!env.parent) return undefined;
  const parent = env.ipc.client(Parent, env.parent);
  const rom = env.caps.get('rom');
  return {
    start: async (port, { argv, environment }) => {
      const own = rom ? ['rom', 'etc'].map((name) => ({ name, client: rom })) : [];
      const { task, name } = await parent.startTask({
        argv: argv ?? [],
        environment: environment ?? {},
        capabilities: [{ name: 'virtnet', client: port }, ...own],
      });
      return { name, ended: waitTask(env, parent, task) };
    },
  };
}
