/**
 * A UDP port that is a test's own for as long as it holds it: a socket at 127.0.0.1 has it, so nobody else is given it for all
 * addresses. Free are all other addresses of 127.0.0.0/8.
 */
import { createSocket } from 'node:dgram';
import { once } from 'node:events';

export interface HeldPort {
  readonly port: number;
  /** Lets go of it, at once. */
  free(): void;
}

export async function holdUdpPort(): Promise<HeldPort> {
  const socket = createSocket('udp4');
  socket.bind(0, '127.0.0.1');
  await once(socket, 'listening');
  return { port: socket.address().port, free: () => socket.close() };
}
