/** The object of a dataspace that a script made: memory in a shared file, mapped or read by its clients. */
import { RIGHT_W } from '#common/ipc/capability';
import { L4Error } from '#common/ipc/errors';
import type { Handlers } from '#common/ipc/service';
import type { Arena } from '#common/shm/arena';
import type { Mapping } from '#common/shm/dataspace';
import type { Dataspace } from '../../proto/gen/services.js';

const MAX_COPY_BYTES = 2 ** 20;

/** Clients map it writable only with the right `w`. */
export function dataspaceHandlers(arena: Arena, mapping: Mapping): Handlers<typeof Dataspace> {
  const check = (offset: number, size: number) => {
    if (offset < 0 || size < 0 || offset + size > mapping.size) {
      throw new L4Error(
        'ERANGE',
        `Cannot access bytes ${offset}..${offset + size} of a dataspace of ${mapping.size} bytes`,
      );
    }
  };
  return {
    info: (_request, { rights }) => ({
      size: mapping.size,
      writable: (rights & RIGHT_W) !== 0,
      path: '',
      builtin: '',
    }),
    map: ({ offset, size }, { rights }) => {
      check(offset, size);
      return { memory: { ...mapping.ref, writable: (rights & RIGHT_W) !== 0 }, offset };
    },
    copyOut: ({ offset, size }) => {
      const bytes = Math.min(size, MAX_COPY_BYTES, Math.max(0, mapping.size - offset));
      check(offset, bytes);
      return { data: arena.u8.slice(mapping.offset + offset, mapping.offset + offset + bytes) };
    },
  };
}
