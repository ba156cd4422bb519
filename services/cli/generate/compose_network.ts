/** What of a lab reaches beyond its containers: ports of this host, and the cables that containers cannot have. */
import { UsageError } from '../problem.ts';

export interface Published {
  /** `--host-forward` as the machine has it in its container. */
  readonly forwards: readonly string[];
  /** What compose publishes of that container. */
  readonly ports: readonly string[];
}

/** Forwards of ports of this host: compose leads them to the machine's container, the machine to the guest. */
export function publish(forwards: readonly string[]): Published {
  const published = forwards.map((forward) => {
    const [, udp = '', host = '127.0.0.1', port, guest] =
      /^(udp:)?(?:([^:]*):)?(\d+)=(.+)$/.exec(forward) ?? [];
    // The machine says what is wrong with it.
    if (port === undefined) return { forward, ports: [] };
    const address = host === 'localhost' ? '127.0.0.1' : host;
    return {
      forward: `${udp}0.0.0.0:${port}=${guest}`,
      ports: [`${address}:${port}:${port}${udp === '' ? '' : '/udp'}`],
    };
  });
  return {
    forwards: published.map(({ forward }) => forward),
    ports: published.flatMap(({ ports }) => ports),
  };
}

/** Throws UsageError for a NIC whose cable needs what the machine's container does not have. */
export function requireContained(nic: string): void {
  const [, key = ''] = /,(wire=(?:tap|pcap|replay)|record=)/.exec(`,${nic}`) ?? [];
  if (key === '') return;
  const instead =
    key === 'wire=tap'
      ? 'use wire=user, or --tap SCRIPT for a lab of its own behind an interface'
      : 'record with docker compose exec SWITCH l4lab capture PORT -w - > FILE';
  throw new UsageError(
    `Cannot use --nic ${nic} as the machine's container has neither interfaces nor files of this host: ${instead}`,
  );
}
