/**
 * What a member of a device's body means, by the names that lead to it (l4re-facts.md 2.3):
 *
 *   compatible, compatible[n]          a compatibility id
 *   Property.<name>, Property.<name>[n]  a property
 *   Resource.<id>, or any resource     a resource
 *   Child.<name>, or any device        a child
 */
import type { LuaValue } from './values.ts';
import { ScriptError } from './values.ts';

/** One value and the names (strings) and list positions (numbers) that lead to it. */
export interface Member {
  readonly path: readonly (string | number)[];
  /** Lua's type of the value, or `device` or `resource`. */
  readonly kind: string;
  /** The value; a token for devices and resources; Lua's tostring() of anything else. */
  readonly value: LuaValue;
}

/** What a member does to its device. */
export type Effect =
  | { readonly kind: 'compatible'; readonly id: string }
  | { readonly kind: 'property'; readonly name: string; readonly index: number; readonly value: LuaValue }
  | { readonly kind: 'resource' | 'child'; readonly name: string; readonly token: LuaValue }
  | { readonly kind: 'ignored'; readonly warning: string };

/** Index of a property that is no list. */
const SCALAR = -1;

/** Throws ScriptError for a value that nothing can be done with. */
export function effectOf({ path, kind, value }: Member): Effect {
  const [section, ...rest] = path;
  switch (section) {
    case 'compatible':
      if (kind !== 'string' || rest.length > 1)
        throw new ScriptError(
          `'compatible' must be a string or a list of strings: ${name(path)} is a ${kind}`,
        );
      return { kind: 'compatible', id: String(value) };
    case 'Property':
      return property(rest, kind, value);
    case 'Resource':
    case 'Child':
      return inSection(section, { path: rest, kind, value });
  }
  if (kind === 'resource') return { kind, name: name(path), token: value };
  if (kind === 'device') return { kind: 'child', name: name(path), token: value };
  throw new ScriptError(`cannot handle device member: ${name(path)}: ${value}`);
}

function property(path: Member['path'], kind: string, value: LuaValue): Effect {
  const [first, index = SCALAR] = path;
  if (first === undefined)
    throw new ScriptError(
      `'Property' must stay a table of properties: it is a ${kind}; write Property.<name> = ...`,
    );
  const simple = kind === 'number' || kind === 'string' || kind === 'boolean';
  return {
    kind: 'property',
    name: String(first),
    // A name in place of a position fits no property.
    index: typeof index === 'number' ? index : 0,
    value: simple ? value : `a ${kind}`,
  };
}

function inSection(section: 'Resource' | 'Child', { path, kind, value }: Member): Effect {
  const wanted = section === 'Resource' ? 'resource' : 'device';
  if (path.length === 0)
    throw new ScriptError(
      `'${section}' must stay a table of ${wanted}s: it is a ${kind}; write ${section}.<name> = ...`,
    );
  if (kind !== wanted)
    return {
      kind: 'ignored',
      warning: `WARNING: ${section}.${name(path)} is left out as it is a ${kind}: only a ${wanted} can stand there`,
    };
  return { kind: section === 'Resource' ? 'resource' : 'child', name: name(path), token: value };
}

/** `nic`, `nic[2]`, `a[b][1]` */
function name([first, ...rest]: Member['path']): string {
  return `${first}${rest.map((part) => `[${part}]`).join('')}`;
}
