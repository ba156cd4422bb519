/** What stands behind a channel whose name no vbus has: every call gets an error that says so. */
import { L4Error } from '#common/ipc/errors';
import type { Binding } from '#common/ipc/service';
import { Vbus } from '../../../proto/gen/services.js';

/** Bindings that answer every operation of Vbus with ENOENT (ENODEV would mean: no more devices); `busses`: the names that there are. */
export function missingBusBindings(name: string, busses: readonly string[]): Binding[] {
  const fail = (): never => {
    throw new L4Error(
      'ENOENT',
      `Cannot use vbus '${name}' as the configuration of Io makes no vbus of that name: it makes ${busses.join(', ') || 'none'}; see what Io printed`,
      { code: 'IO_NO_VBUS' },
    );
  };
  const handlers = Object.fromEntries(Object.keys(Vbus.methods).map((operation) => [operation, fail]));
  return [{ service: Vbus, handlers }];
}
