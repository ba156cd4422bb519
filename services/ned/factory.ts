/**
 * The factories that ned serves: `L4.Env.mem_alloc` (Moe's root factory on L4Re) and what a script makes of
 * it with a quota (l4re-facts.md 1.5). Channels are made by script_creation.ts, as their server ends never travel.
 */
import type { Capability } from '#common/ipc/capability';
import { L4Error } from '#common/ipc/errors';
import type { Gate } from '#common/ipc/gate';
import type { Ipc } from '#common/ipc/ipc';
import { bind, type Handlers } from '#common/ipc/service';
import { colorNumber } from '#common/obs/log_record';
import type { Arena } from '#common/shm/arena';
import type { Mapping, SharedMemories } from '#common/shm/dataspace';
import type { l4lab as m } from '../../proto/gen/messages.js';
import { Dataspace, Factory, Log } from '../../proto/gen/services.js';
import { dataspaceHandlers } from './dataspace.ts';
import type { LogTags } from './log.ts';
import { createNamespace, type NamespaceContext } from './namespace.ts';
import type { References } from './references.ts';

/** L4.Proto, as far as ned makes such objects. */
export const PROTO = {
  IPC_GATE: 0,
  DATASPACE: 0x4000,
  NAMESPACE: 0x4001,
  RM: 0x4005,
  SIGMA0: -6,
  LOG: -13,
  SCHEDULER: -14,
  FACTORY: -15,
  DMA_SPACE: -17,
} as const;

/** Highest priority of a thread on L4Re's kernel. */
const MAX_PRIORITY = 255;
const DEFAULT_COLOR = 7;

export interface FactoryContext {
  readonly gate: Gate;
  readonly ipc: Ipc;
  readonly references: References;
  readonly memories: SharedMemories;
  readonly arena: Arena;
  readonly tags: LogTags;
  /** Factory of DMA spaces, if the machine has one. */
  readonly iommu: Capability | undefined;
  /** Number of an object that this task creates, if it is to be a fixed one. */
  readonly newId?: (holder: string) => number | undefined;
  /** The same for the root factory. */
  readonly rootId?: number | undefined;
}

/** Bytes that a sub-factory may hand out; what its own sub-factories do counts as well. The root factory has no limit. */
interface Quota {
  readonly limit: number;
  readonly outer: Quota | undefined;
  used: number;
}

/** Throws L4Error ENOMEM when one of the quotas does not have that much left. */
function take(innermost: Quota | undefined, size: number): void {
  for (let quota = innermost; quota; quota = quota.outer) {
    if (quota.used + size <= quota.limit) continue;
    throw new L4Error(
      'ENOMEM',
      `Cannot create dataspace of ${size} bytes as the factory's quota is ${quota.limit} and ${quota.used} are used`,
    );
  }
  for (let quota = innermost; quota; quota = quota.outer) quota.used += size;
}

function giveBack(innermost: Quota | undefined, size: number): void {
  for (let quota = innermost; quota; quota = quota.outer) quota.used -= size;
}

type Argument = m.IFactoryArgument | undefined;

/** Serves the root factory. */
export function serveFactory(context: FactoryContext): Capability {
  return context.gate.export([bind(Factory, factoryHandlers(context, undefined))], { id: context.rootId });
}

function factoryHandlers(context: FactoryContext, quota: Quota | undefined): Handlers<typeof Factory> {
  return {
    create: async (request, { task }) => {
      const { type, arguments: args } = request;
      switch (type) {
        case PROTO.NAMESPACE:
          return { object: createNamespace(context satisfies NamespaceContext, task) };
        case PROTO.RM:
          return { object: context.gate.export([], heldBy(context, task)) };
        case PROTO.DATASPACE:
          return { object: createDataspace(context, quota, args, task) };
        case PROTO.FACTORY:
          return { object: createFactory(context, quota, args, task) };
        case PROTO.LOG:
          return { object: createLog(context, args, task) };
        case PROTO.SCHEDULER:
          return { object: createScheduler(context, quota, args, task) };
        case PROTO.DMA_SPACE:
          return createDmaSpace(context, request, task);
        default:
          throw new L4Error(
            'ENODEV',
            `Cannot create an object of type ${type} as this factory makes Dataspace, Namespace, Rm, Factory, Log, Scheduler and Dma_space`,
          );
      }
    },
  };
}

/** The integer that an argument carries, if it is one. */
function integer(argument: Argument): number | undefined {
  if (argument?.number === undefined || argument.number === null || argument.number === '') return undefined;
  const value = Number(argument.number);
  return Number.isSafeInteger(value) ? value : undefined;
}

/** What a script wrote, for messages. */
function shown(argument: Argument): string {
  if (argument?.number) return argument.number;
  return argument?.text ? `"${argument.text}"` : 'missing';
}

function createDataspace(
  context: FactoryContext,
  quota: Quota | undefined,
  args: Argument[],
  holder: string,
): Capability {
  const size = integer(args[0]);
  if (size === undefined || size <= 0) {
    throw new L4Error(
      'EINVAL',
      `Cannot create dataspace as its size must be a number of bytes: current value is ${shown(args[0])}`,
    );
  }
  take(quota, size);
  let mapping: Mapping;
  try {
    mapping = context.memories.create(size, true, true);
  } catch (err) {
    giveBack(quota, size);
    throw err;
  }
  return context.gate.export([bind(Dataspace, dataspaceHandlers(context.arena, mapping))], {
    ...heldBy(context, holder),
    onGone: () => {
      giveBack(quota, size);
      mapping.close();
    },
  });
}

function createFactory(
  context: FactoryContext,
  outer: Quota | undefined,
  args: Argument[],
  holder: string,
): Capability {
  const limit = integer(args[0]);
  if (limit === undefined || limit <= 0) {
    throw new L4Error(
      'EINVAL',
      `Cannot create factory as its quota must be a positive number of bytes: current value is ${shown(args[0])}`,
    );
  }
  return context.gate.export(
    [bind(Factory, factoryHandlers(context, { limit, outer, used: 0 }))],
    heldBy(context, holder),
  );
}

/** The new object's holder and number. */
function heldBy({ newId }: FactoryContext, holder: string): { holder: string; id: number | undefined } {
  return { holder, id: newId?.(holder) };
}

function createLog(context: FactoryContext, [tag, color]: Argument[], holder: string): Capability {
  if (typeof tag?.text !== 'string') {
    throw new L4Error(
      'EINVAL',
      `Cannot create log as its tag must be a string: current value is ${shown(tag)}`,
    );
  }
  const number = color?.text ? colorNumber(color.text) : (integer(color) ?? DEFAULT_COLOR) & 0xf;
  const { gate, tags } = context;
  const style = { tag: tag.text, color: number };
  const cap = gate.export(
    [
      bind(Log, {
        write: async ({ data }) => {
          await tags.write(style, data);
          return {};
        },
      }),
    ],
    { ...heldBy(context, holder), onGone: () => tags.delete(cap) },
  );
  tags.set(cap, style);
  return cap;
}

/** A limit on priorities and CPUs. Accepted and checked; the tasks are Linux processes and stay as they are. */
function createScheduler(
  context: FactoryContext,
  quota: Quota | undefined,
  args: Argument[],
  holder: string,
): Capability {
  if (quota)
    throw new L4Error(
      'ENODEV',
      'Cannot create scheduler as only the root factory (L4.Env.user_factory) makes them',
    );
  const [limit, offset] = [integer(args[0]), integer(args[1])];
  if (limit === undefined || offset === undefined) {
    throw new L4Error(
      'EINVAL',
      `Cannot create scheduler as limit and offset must be integers: current values are ${shown(args[0])} and ${shown(args[1])}`,
    );
  }
  if (limit > MAX_PRIORITY || offset > MAX_PRIORITY) {
    throw new L4Error(
      'ERANGE',
      `Cannot create scheduler as priorities end at ${MAX_PRIORITY}: current values are ${limit} and ${offset}`,
    );
  }
  if (limit <= offset) {
    throw new L4Error(
      'EINVAL',
      `Cannot create scheduler as its limit must be above its offset: current values are ${limit} and ${offset}`,
    );
  }
  return context.gate.export([], heldBy(context, holder));
}

/** The machine's: held by the task that asks from its creation. */
async function createDmaSpace({ iommu, ipc }: FactoryContext, request: m.CreateRequest, task: string) {
  if (!iommu) throw new L4Error('ENODEV', 'Cannot create DMA space as this machine has no IOMMU');
  return ipc.client(Factory, iommu).create(request, { task });
}
