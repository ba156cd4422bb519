/**
 * What linking lwip, lwip_virtio_net and lwip_ifconfig_env does for a program on L4Re before main: an interface for each
 * capability whose name starts with `virtnet`, configured from the environment. Here the program awaits it.
 */
import { L4Error } from '#common/ipc/errors';
import type { TaskEnv } from '#common/task/env';
import { DhcpClient } from './dhcp/client.ts';
import { waitForLeases } from './dhcp/wait.ts';
import {
  configuredLines,
  dhcpTimeout,
  parseIp4Setting,
  strayVariables,
  VARIABLE_PREFIX,
  vlanOf,
} from './ifconfig_env.ts';
import { Netif } from './netif.ts';
import { Network } from './network.ts';
import { Stack } from './stack.ts';
import { VirtioPort } from './virtio_netif.ts';
import { TAG_BYTES, VlanPort } from './vlan_port.ts';

export { LwipAgent } from './agent.ts';
export type { ConnectOptions, SocketHost } from './connector.ts';
export { NetError, type NetErrorCode } from './errors.ts';
export { Netif } from './netif.ts';
export { Network } from './network.ts';
export { type ResolvedAddress, Resolver } from './resolver/resolver.ts';
export { type ListenOptions, Server } from './server.ts';
export { Socket, type SocketOptions } from './socket.ts';
export { type RemoteInfo, UdpSocket } from './udp.ts';

const CAP_PREFIX = 'virtnet';

/** The parts of a task's environment that the network needs. */
export type NetworkEnv = Pick<
  TaskEnv,
  | 'name'
  | 'environment'
  | 'capNames'
  | 'caps'
  | 'ipc'
  | 'arena'
  | 'memories'
  | 'doorbells'
  | 'signal'
  | 'external'
  | 'stdout'
  | 'stderr'
> & { readonly files: Pick<TaskEnv['files'], 'read'> };

/**
 * Brings the network of a task up: interfaces, addresses, DHCP. Without a `virtnet*` capability there is a network
 * without interfaces at once, and every connect fails with ENETUNREACH and a hint. Throws L4Error: a device that does
 * not work, a variable that cannot be read (EINVAL), no DHCP lease in time (EIPC_RECV_TIMEOUT).
 */
export async function openNetwork(env: NetworkEnv): Promise<Network> {
  const stack = Stack.open(env.arena);
  const ports: VirtioPort[] = [];
  const netifs: Netif[] = [];
  const dhcp: DhcpClient[] = [];
  const log = (line: string): void => void env.stderr.write(`${line}\n`);
  const network = new Network({
    stack,
    netifs,
    dhcp,
    readEtc: (name) => readEtc(env, name),
    log,
    closePorts: async () => {
      await Promise.all(ports.map((port) => port.closed()));
    },
  });
  try {
    for (const name of env.capNames.filter((each) => each.startsWith(CAP_PREFIX))) {
      netifs.push(await openInterface(env, stack, name, ports));
    }
    await configure(env, stack, netifs, dhcp, log);
    return network;
  } catch (err) {
    await network.close();
    throw err;
  }
}

async function openInterface(
  env: NetworkEnv,
  stack: Stack,
  capName: string,
  ports: VirtioPort[],
): Promise<Netif> {
  const cap = env.caps.get(capName);
  if (cap === undefined) {
    throw new L4Error(
      'EINVAL',
      `Cannot make a network interface of "${capName}" as it must be the client end of a virtio-net port: it is a server end (drop :svr())`,
    );
  }
  let netif: Netif | undefined;
  const name = Netif.nextName(stack.memory);
  const vlan = vlanOf(env.environment, name);
  const port = await VirtioPort.open(env, cap, {
    name: capName,
    number: ports.length + 1,
    extraBytes: vlan === undefined ? 0 : TAG_BYTES,
    signal: env.signal,
    patient: env.external,
    onBack: (awayMs) =>
      void env.stderr.write(
        `${capName} is back after ${Math.round(awayMs)} ms: its server was started again\n`,
      ),
    onFailed: (error) => {
      // When everything ends at once, the device may be the first.
      if (!env.signal.aborted) void env.stderr.write(`Error: ${error.message}\n`);
      netif?.fail(error.message);
    },
  });
  ports.push(port);
  netif = new Netif(stack, vlan === undefined ? port : new VlanPort(port, stack.memory, vlan));
  if (vlan !== undefined)
    void env.stderr.write(`Interface '${name}' sends and takes frames of VLAN ${vlan} only\n`);
  return netif;
}

async function configure(
  env: NetworkEnv,
  stack: Stack,
  netifs: readonly Netif[],
  dhcp: DhcpClient[],
  log: (line: string) => void,
): Promise<void> {
  const names = netifs.map(({ name }) => name);
  for (const warning of strayVariables(env.environment, names)) log(warning);
  for (const netif of netifs) {
    const variable = VARIABLE_PREFIX + netif.name;
    const value = env.environment.get(variable);
    if (value === undefined) continue;
    const setting = parseIp4Setting(variable, value);
    if (setting.kind === 'dhcp') {
      dhcp.push(new DhcpClient({ stack, netif, hostname: env.name, log }));
    } else {
      netif.setAddress(setting.ip, setting.netmask, setting.gateway);
      for (const line of configuredLines(netif.name, 'statically', setting)) log(line);
    }
  }
  if (dhcp.length === 0) return;
  log('Waiting for DHCP to configure interfaces...');
  for (const client of dhcp) client.start();
  await waitForLeases(dhcp, dhcpTimeout(env.environment), { log, signal: env.signal });
  for (const { netif } of dhcp) for (const line of configuredLines(netif.name, 'via DHCP', netif)) log(line);
}

/** The text of a file in the capability `etc`; undefined when there is no such file or capability. */
async function readEtc(env: NetworkEnv, name: string): Promise<string | undefined> {
  try {
    return Buffer.from(await env.files.read(`/etc/${name}`)).toString('latin1');
  } catch (err) {
    if (err instanceof L4Error && err.errno === 2) return undefined;
    throw err;
  }
}
