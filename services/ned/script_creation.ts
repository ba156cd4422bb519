/**
 * `factory:create()` (l4re-facts.md 1.5). The kernel's factory, `L4.Env.factory`, is ned itself; any other one is
 * the server behind its capability.
 */
import { type Capability, rootCapability, type ServerEnd } from '#common/ipc/capability';
import { L4_ERRNO, L4Error, toL4Error } from '#common/ipc/errors';
import type { Ipc } from '#common/ipc/ipc';
import type { l4lab as m } from '../../proto/gen/messages.js';
import { Factory } from '../../proto/gen/services.js';
import type { Channels } from './channels.ts';
import type { LuaValue } from './engine/marshal.ts';
import type { CurrentEvaluation } from './evaluation.ts';
import { PROTO } from './factory.ts';
import { fields, type LuaFields, list, number } from './lua_values.ts';
import { type References, sameObject } from './references.ts';

export interface ScriptCreationContext {
  readonly ipc: Ipc;
  readonly channels: Channels;
  readonly references: References;
  /** L4.Env. */
  readonly env: ReadonlyMap<string, Capability>;
  /** Makes the server end of a new channel. */
  readonly newGate: () => ServerEnd;
}

/** A function that takes longer than that to create its object does not get it. */
const CREATE_MS = 5000;

export class ScriptCreation {
  readonly #context: ScriptCreationContext;
  readonly #evaluation: CurrentEvaluation;
  /** Factories like L4.Env.factory that the script made. */
  readonly #kernelFactories = new WeakSet<Capability>();

  constructor(context: ScriptCreationContext, evaluation: CurrentEvaluation) {
    this.#context = context;
    this.#evaluation = evaluation;
  }

  /** The handle of a new object of type `type` (L4.Proto); `where` is the line that asks for it. */
  async create(factory: Capability, type: number, args: LuaValue, where: string): Promise<number> {
    const { env, references } = this.#context;
    if (sameObject(factory, env.get('factory')) || this.#kernelFactories.has(factory))
      return this.#createKernelObject(type, where);
    if (type === PROTO.SIGMA0 && sameObject(factory, env.get('sigma0')))
      return references.handleByAdopting(factory);
    const given = list(args).map((value) => this.#argument(fields(value)));
    this.#evaluation.checkServed(factory);
    const object = await this.#createAt(factory, { type, arguments: [...given, { nil: true }] });
    if (!object) throw new L4Error('EIO', 'Cannot use the new object as its server returned none');
    if (this.#evaluation.task === undefined) return references.handleByAdopting(object);
    this.#evaluation.created(object);
    return references.handleByAcquiring(object);
  }

  async #createKernelObject(type: number, site: string): Promise<number> {
    if (type === PROTO.FACTORY) return this.#createKernelFactory();
    if (type !== PROTO.IPC_GATE) {
      throw new L4Error(
        'ENODEV',
        `Cannot create a kernel object of type ${type} as L4.Env.factory makes channels here (L4.Proto.Ipc_gate) and factories of them; memory, namespaces and logs come from L4.Env.user_factory`,
      );
    }
    const end = this.#context.newGate();
    this.#context.channels.add(end, site);
    return this.#context.references.handleByAdopting(rootCapability(end));
  }

  /** Another one like L4.Env.factory. Its quota of kernel memory limits nothing: there is no such memory. */
  async #createKernelFactory(): Promise<number> {
    const memAlloc = this.#context.env.get('mem_alloc') as Capability;
    const object = (await this.#createAt(memAlloc, { type: PROTO.RM, arguments: [] })) as Capability;
    const handle = this.#context.references.handleByAdopting(object);
    this.#kernelFactories.add(object);
    return handle;
  }

  /** What a function creates is held by the task that it is for from the beginning. */
  async #createAt(factory: Capability, request: m.ICreateRequest): Promise<Capability | undefined> {
    const { task } = this.#evaluation;
    const options = task === undefined ? {} : { task, deadlineMs: CREATE_MS };
    try {
      const { object } = await this.#context.ipc.client(Factory, factory).create(request, options);
      return (object ?? undefined) as Capability | undefined;
    } catch (err) {
      const { errno, message } = toL4Error(err);
      if (errno >= L4_ERRNO.EIPC_RECV_TIMEOUT) this.#evaluation.postpone(message);
      throw err;
    }
  }

  #argument(value: LuaFields): m.IFactoryArgument {
    if (value.number !== undefined) return { number: String(value.number) };
    if (value.null === true) return { nil: true };
    if (value.capability !== undefined) {
      const { capability, rights } = value;
      return { capability: this.#context.references.narrowed(number(capability), number(rights)) };
    }
    if (typeof value.text === 'string') return { text: value.text };
    if (value.text instanceof Uint8Array) return { text: Buffer.from(value.text).toString('latin1') };
    return {};
  }
}
