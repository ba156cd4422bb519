/** Reading what Lua passes to an operation: what is missing, or of another type, is empty or 0. */
import type { LuaValue } from './engine/marshal.ts';

export type LuaFields = { readonly [key: string]: LuaValue };

/** What is no UTF-8 gets replacement characters. */
export const text = (value: LuaValue): string =>
  value instanceof Uint8Array ? Buffer.from(value).toString() : typeof value === 'string' ? value : '';

export const number = (value: LuaValue): number => Number(value ?? 0);

export const list = (value: LuaValue): readonly LuaValue[] => (Array.isArray(value) ? value : []);

export const fields = (value: LuaValue): LuaFields =>
  typeof value === 'object' && !Array.isArray(value) && !(value instanceof Uint8Array) ? value : {};
