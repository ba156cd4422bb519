/** A port of the loopback that refuses connections, for as long as a test wants it to. */
import { once } from 'node:events';
import net from 'node:net';

export interface RefusingPort {
  readonly port: number;
  close(): Promise<void>;
}

/**
 * The near end of an open connection: nobody listens there, and as long as it is open nobody else can. A port that was
 * listened on and closed may have another owner by the time it is used.
 */
export async function refusingPort(): Promise<RefusingPort> {
  const server = net.createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const accepted = once(server, 'connection');
  const near = net.connect((server.address() as net.AddressInfo).port, '127.0.0.1');
  await once(near, 'connect');
  const [far] = (await accepted) as [net.Socket];
  return {
    port: near.localPort as number,
    close: async () => {
      near.destroy();
      far.destroy();
      server.close();
      await once(server, 'close');
    },
  };
}
