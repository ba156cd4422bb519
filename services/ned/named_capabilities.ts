/** What a script gives to a task: the entries of its `caps`, with `:m()` and `:svr()` (l4re-facts.md 1.4). */
import type { l4lab as m } from '../../proto/gen/messages.js';
import type { Channels } from './channels.ts';
import type { LuaValue } from './engine/marshal.ts';
import type { OwnLog } from './log.ts';
import { fields, type LuaFields, list, number, text } from './lua_values.ts';
import type { References } from './references.ts';

export type NamedCapabilities = readonly m.INamedCapability[];

export interface NamedCapabilitiesContext {
  readonly channels: Channels;
  readonly references: References;
  readonly log: OwnLog;
}

/** Lua's entries, with what their handles stand for. Throws L4Error EINVAL for a handle that is none. */
export function namedCapabilities(context: NamedCapabilitiesContext, entries: LuaValue): NamedCapabilities {
  return list(entries).map((entry) => namedCapability(context, fields(entry)));
}

function namedCapability(
  { channels, references, log }: NamedCapabilitiesContext,
  entry: LuaFields,
): m.INamedCapability {
  const name = text(entry.name);
  const cap = references.get(number(entry.id));
  const channel = cap.object === 0 ? channels.get(cap.gate) : undefined;
  if (channel && typeof entry.variable === 'string') channel.name ??= entry.variable;
  if (entry.server !== true)
    return { name, client: references.narrowed(number(entry.id), number(entry.rights)) };
  if (channel) return { name, server: channel.end };
  log.warn(
    `capability '${name}' was given with :svr(), but only a channel of this script has a server end; its client end is passed`,
  );
  return { name, client: cap };
}
