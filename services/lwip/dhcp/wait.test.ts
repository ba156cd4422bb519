import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import type { DhcpProgress } from './machine.ts';
import { type Waiting, waitForLeases } from './wait.ts';

const PROGRESS: DhcpProgress = { discoversSent: 3, requestsSent: 0, ignored: [], naks: 0, declined: 0 };

beforeEach(() => {
  vi.useFakeTimers();
});
afterEach(() => {
  vi.useRealTimers();
});

function setup(progress: Partial<DhcpProgress> = {}) {
  let done = () => {};
  const bound = new Promise<void>((resolve) => {
    done = resolve;
  });
  const client: Waiting = {
    netif: { name: 'vn0' },
    lease: undefined,
    progress: { ...PROGRESS, ...progress },
    bound,
  };
  const lines: string[] = [];
  const abort = new AbortController();
  const wait = (limit: number) => {
    const result = waitForLeases([client], limit, { log: (line) => lines.push(line), signal: abort.signal });
    return result.then(
      () => 'bound',
      (err: Error) => err.message,
    );
  };
  return { wait, lines, done, abort };
}

describe('waitForLeases()', () => {
  it('waits for a limit of any size', async () => {
    const { wait, done } = setup();
    const result = wait(3_000_000);
    await vi.advanceTimersByTimeAsync(60_000);
    done();
    expect(await result).toBe('bound');
  });

  it('speaks after 5 s and then every 10 s, and gives up with a hint', async () => {
    const { wait, lines } = setup();
    const result = wait(30);
    await vi.advanceTimersByTimeAsync(4999);
    expect(lines).toEqual([]);
    await vi.advanceTimersByTimeAsync(11_000);
    expect(lines).toEqual([
      "Interface 'vn0' has no DHCP lease after 5 s: 3 DISCOVERs sent, nothing came back. Is a DHCP server on this network, is the switch port connected to a NIC, and is the link up?",
      expect.stringContaining('after 15 s'),
    ]);
    await vi.advanceTimersByTimeAsync(20_000);
    expect(await result).toMatch(
      /^Cannot configure interface "vn0" as no DHCP server gave a lease within 30 s: .*IFCONFIG_DHCP_TIMEOUT/,
    );
  });

  it('says why answers were not taken', async () => {
    const { wait, lines, done } = setup({ ignored: ['a reply had transaction id 1'], requestsSent: 1 });
    const result = wait(0);
    await vi.advanceTimersByTimeAsync(5000);
    expect(lines[0]).toMatch(
      /1 REQUEST sent, what came back was not usable: a reply had transaction id 1\. Check the DHCP server\./,
    );
    done();
    expect(await result).toBe('bound');
    expect(vi.getTimerCount()).toBe(0);
  });

  it('ends when the task is to end', async () => {
    const { wait, abort } = setup();
    const result = wait(0);
    abort.abort();
    expect(await result).toMatch(/the task is to end/);
    expect(vi.getTimerCount()).toBe(0);
  });
});
