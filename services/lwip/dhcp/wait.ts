/**
 * Waiting for DHCP before the program starts. L4Re waits in silence and for ever; here the console hears after 5 s, and then
 * every 10 s, what was sent and what came back, and there is a limit.
 */
import { L4Error } from '#common/ipc/errors';
import type { Lease } from './lease.ts';
import type { DhcpProgress } from './machine.ts';
import { givenUpLine, waitingLine } from './report.ts';

const FIRST_REPORT_MS = 5000;
const REPORT_EVERY_MS = 10_000;
/** setTimeout's largest delay. */
export const MAX_DELAY_MS = 2 ** 31 - 1;

/** What is waited for: a `DhcpClient`. */
export interface Waiting {
  readonly netif: { readonly name: string };
  readonly lease: Lease | undefined;
  readonly progress: DhcpProgress;
  readonly bound: Promise<void>;
}

/**
 * Resolves when all clients have a lease. Rejects with L4Error: EIPC_RECV_TIMEOUT (LWIP_DHCP_TIMEOUT) after `limit` seconds
 * (0 = never), EIPC_CANCELED when the task is to end.
 */
export async function waitForLeases(
  clients: readonly Waiting[],
  limit: number,
  { log, signal }: { readonly log: (line: string) => void; readonly signal: AbortSignal },
): Promise<void> {
  const started = performance.now();
  const pending = (): Waiting[] => clients.filter(({ lease }) => lease === undefined);
  const report = (): void => {
    const seconds = (performance.now() - started) / 1000;
    for (const { netif, progress } of pending()) log(waitingLine(netif.name, seconds, progress));
    timers.push(setTimeout(report, REPORT_EVERY_MS));
  };
  const timers = [setTimeout(report, FIRST_REPORT_MS)];
  let stop: (() => void) | undefined;
  const trouble = new Promise<never>((_, reject) => {
    stop = () => reject(new L4Error('EIPC_CANCELED', 'Stopped waiting for DHCP as the task is to end'));
    if (signal.aborted) stop();
    else signal.addEventListener('abort', stop, { once: true });
    if (limit === 0) return;
    const giveUp = (): void => {
      const lines = pending().map(({ netif, progress }) => givenUpLine(netif.name, limit, progress));
      reject(new L4Error('EIPC_RECV_TIMEOUT', lines.join('\n'), { code: 'LWIP_DHCP_TIMEOUT' }));
    };
    timers.push(setTimeout(giveUp, Math.min(limit * 1000, MAX_DELAY_MS)));
  });
  try {
    await Promise.race([Promise.all(clients.map(({ bound }) => bound)), trouble]);
  } finally {
    for (const timer of timers) clearTimeout(timer);
    if (stop !== undefined) signal.removeEventListener('abort', stop);
  }
}
