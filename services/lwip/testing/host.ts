/** An interface on a user network and a `SocketHost` over it, for tests: one per process, as lwIP itself. */
import { Arena } from '#common/shm/arena';
import { get16 } from '#common/wire/bytes';
import { ETH, ETHERTYPE, etherType } from '#common/wire/ethernet';
import { IP_PROTOCOL, IPV4, parseIpv4 } from '#common/wire/ipv4';
import type { SocketHost } from '../connector.ts';
import { Netif } from '../netif.ts';
import { Stack } from '../stack.ts';
import { type SlirpOptions, SlirpPort } from './slirp.ts';

export interface TestHost extends SocketHost, Disposable {
  readonly netif: Netif;
  readonly slirp: SlirpPort;
}

/** lwIP with vn0 = 10.0.2.15/24 via 10.0.2.2; names are looked up as if all were 10.0.2.2. */
export function testHost(options: SlirpOptions = {}): TestHost {
  const arena = new Arena(2 ** 26);
  const stack = Stack.open(arena);
  const slirp = new SlirpPort(arena, options);
  const netif = new Netif(stack, slirp);
  const ip = (text: string): number => parseIpv4(text) ?? 0;
  netif.setAddress(ip('10.0.2.15'), ip('255.255.255.0'), ip('10.0.2.2'));
  return {
    stack,
    slirp,
    netif,
    netifs: [netif],
    lookup: (_name, { all }, callback) => {
      if (all) callback(null, [{ address: '10.0.2.2', family: 4 }]);
      else callback(null, '10.0.2.2', 4);
    },
    [Symbol.dispose]: () => {
      netif.close();
      stack.timers.stop();
    },
  };
}

/** What a frame at this offset says of its TCP connection; undefined for any other frame. */
export function tcpOf(
  { stack }: SocketHost,
  at: number,
): { source: number; destination: number; window: number } | undefined {
  const { u8 } = stack.memory;
  const ip = at + ETH.HEADER;
  if (etherType(u8, at) !== ETHERTYPE.IPV4 || u8[ip + IPV4.PROTOCOL] !== IP_PROTOCOL.TCP) return undefined;
  const tcp = ip + ((u8[ip] as number) & 0xf) * 4;
  return { source: get16(u8, tcp), destination: get16(u8, tcp + 2), window: get16(u8, tcp + 14) };
}

/** Resolves when it is so. There is no limit but that of the test. */
export async function until(isSo: () => boolean): Promise<void> {
  while (!isSo()) await new Promise((resolve) => setTimeout(resolve, 2));
}

/** A promise for the next event of an emitter; rejects on 'error'. */
export function event<T = unknown>(emitter: NodeJS.EventEmitter, name: string): Promise<T> {
  return new Promise((resolve, reject) => {
    emitter.once(name, resolve);
    if (name !== 'error') emitter.once('error', reject);
  });
}
