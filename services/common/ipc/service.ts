/** Types that turn the generated service tables into typed clients and handlers. */
import type { MessageType } from '../../../proto/gen/services.js';

// biome-ignore lint/suspicious/noExplicitAny: a table's message types vary per method; they are inferred where used
type AnyMessage = MessageType<any, any>;

export interface Method {
  readonly opcode: number;
  /** Rights mask that the capability must carry. */
  readonly needs: number;
  readonly request: AnyMessage;
  readonly reply: AnyMessage;
}

/** One generated table of proto/gen/services.js. */
export interface Service {
  readonly name: string;
  readonly methods: { readonly [name: string]: Method };
}

type Input<T> = T extends MessageType<infer I, infer _O> ? I : never;
type Output<T> = T extends MessageType<infer _I, infer O> ? O : never;

export interface CallOptions {
  /** Abandons the call: it rejects with EIPC_CANCELED and the server is told. */
  signal?: AbortSignal;
  /** Milliseconds for everything, waiting for the server included; default: no limit for waiting, 30 s for the answer. */
  deadlineMs?: number;
  /** Waits on when ned says that the server has ended: it may be started again. */
  patient?: boolean;
  /** Calls in the name of this task: what the call creates is held by it. Default: the calling task. */
  task?: string;
}

/** What a server knows of the call besides the request. */
export interface CallContext {
  /** Effective rights of the capability that was used. */
  readonly rights: number;
  /** Id of the calling task. */
  readonly task: string;
  /** Aborted when the client gives up. */
  readonly signal: AbortSignal;
}

export type Client<S extends Service> = {
  readonly [K in keyof S['methods']]: (
    request?: Input<S['methods'][K]['request']>,
    options?: CallOptions,
  ) => Promise<Output<S['methods'][K]['reply']>>;
};

export type Handlers<S extends Service> = {
  readonly [K in keyof S['methods']]: (
    request: Output<S['methods'][K]['request']>,
    context: CallContext,
  ) => Input<S['methods'][K]['reply']> | Promise<Input<S['methods'][K]['reply']>>;
};

/** A service together with the code that implements it, as an object of a gate takes it. */
export type Binding = {
  readonly service: Service;
  readonly handlers: Record<string, (request: never, context: CallContext) => unknown>;
};

/** Pairs a service with its handlers, checked by the compiler. */
export function bind<S extends Service>(service: S, handlers: Handlers<S>): Binding {
  return { service, handlers: handlers as unknown as Binding['handlers'] };
}
