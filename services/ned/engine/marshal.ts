/**
 * Values between Lua and JavaScript, through Lua's own C API.
 *
 * wasmoon's conversion turns integers into doubles and cuts strings at a NUL; this one keeps 64-bit
 * integers as bigint, and strings that are not UTF-8 as bytes. Tables are copied: a sequence becomes an
 * array, anything else an object of its string keys.
 */
import type { LuaWasm } from 'wasmoon';

/** What crosses. Integers come from Lua as bigint; integral numbers and bigints go to Lua as integers. */
export type LuaValue =
  | undefined
  | boolean
  | number
  | bigint
  | string
  | Uint8Array
  | LuaValue[]
  | { [key: string]: LuaValue };

/** The raw exports of the module that wasmoon's typings do not name: no string conversion in between. */
export interface RawApi {
  HEAPU8: Uint8Array;
  HEAPU32: Uint32Array;
  _malloc(bytes: number): number;
  _lua_gettop(L: number): number;
  _lua_settop(L: number, index: number): void;
  _lua_type(L: number, index: number): number;
  _lua_isinteger(L: number, index: number): number;
  _lua_tointegerx(L: number, index: number, isNumber: number): bigint;
  _lua_tonumberx(L: number, index: number, isNumber: number): number;
  _lua_toboolean(L: number, index: number): number;
  _lua_tolstring(L: number, index: number, length: number): number;
  _lua_rawlen(L: number, index: number): number;
  _lua_rawgeti(L: number, index: number, n: bigint): number;
  _lua_rawseti(L: number, index: number, n: bigint): void;
  _lua_rawset(L: number, index: number): void;
  _lua_next(L: number, index: number): number;
  _lua_checkstack(L: number, n: number): number;
  _lua_createtable(L: number, sequence: number, fields: number): void;
  _lua_pushnil(L: number): void;
  _lua_pushboolean(L: number, value: number): void;
  _lua_pushinteger(L: number, value: bigint): void;
  _lua_pushnumber(L: number, value: number): void;
  _lua_pushlstring(L: number, text: number, length: number): number;
  _lua_pushcclosure(L: number, fn: number, upvalues: number): void;
  _lua_newuserdatauv(L: number, size: number, values: number): number;
  _free(pointer: number): void;
  addFunction(fn: (L: number) => number, signature: 'ii'): number;
}

const TYPE = { nil: 0, boolean: 1, number: 3, string: 4, table: 5 } as const;
const MAX_DEPTH = 16;

const utf8 = new TextEncoder();
const fromUtf8 = new TextDecoder('utf-8', { fatal: true });

export class Marshal {
  readonly #api: RawApi;
  /** Four bytes of the module's heap for string lengths. */
  readonly #length: number;

  constructor(wasm: LuaWasm) {
    this.#api = wasm.module as unknown as RawApi;
    this.#length = this.#api._malloc(4);
  }

  get api(): RawApi {
    return this.#api;
  }

  /** All values on the stack of `L`. Functions and userdata become undefined. */
  arguments(L: number): LuaValue[] {
    const values: LuaValue[] = [];
    for (let i = 1; i <= this.#api._lua_gettop(L); i++) values.push(this.get(L, i));
    return values;
  }

  get(L: number, index: number, depth = 0): LuaValue {
    const api = this.#api;
    switch (api._lua_type(L, index)) {
      case TYPE.boolean:
        return api._lua_toboolean(L, index) !== 0;
      case TYPE.number:
        return api._lua_isinteger(L, index)
          ? api._lua_tointegerx(L, index, 0)
          : api._lua_tonumberx(L, index, 0);
      case TYPE.string:
        return this.#string(L, index);
      case TYPE.table:
        return depth < MAX_DEPTH
          ? this.#table(L, index < 0 ? api._lua_gettop(L) + index + 1 : index, depth)
          : undefined;
      default:
        return undefined;
    }
  }

  push(L: number, value: LuaValue): void {
    const api = this.#api;
    if (value === undefined) api._lua_pushnil(L);
    else if (typeof value === 'boolean') api._lua_pushboolean(L, value ? 1 : 0);
    else if (typeof value === 'bigint') api._lua_pushinteger(L, BigInt.asIntN(64, value));
    else if (typeof value === 'number') {
      if (Number.isSafeInteger(value)) api._lua_pushinteger(L, BigInt(value));
      else api._lua_pushnumber(L, value);
    } else if (typeof value === 'string') this.#pushBytes(L, utf8.encode(value));
    else if (value instanceof Uint8Array) this.#pushBytes(L, value);
    else this.#pushTable(L, value);
  }

  #string(L: number, index: number): string | Uint8Array {
    const start = this.#api._lua_tolstring(L, index, this.#length);
    const end = start + (this.#api.HEAPU32[this.#length >> 2] as number);
    const bytes = this.#api.HEAPU8.slice(start, end);
    try {
      return fromUtf8.decode(bytes);
    } catch {
      return bytes;
    }
  }

  #table(L: number, index: number, depth: number): LuaValue {
    const api = this.#api;
    api._lua_checkstack(L, 4);
    const length = api._lua_rawlen(L, index);
    if (length > 0) {
      const list: LuaValue[] = [];
      for (let i = 1; i <= length; i++) {
        api._lua_rawgeti(L, index, BigInt(i));
        list.push(this.get(L, -1, depth + 1));
        api._lua_settop(L, -2);
      }
      return list;
    }
    const fields: Record<string, LuaValue> = Object.create(null);
    api._lua_pushnil(L);
    while (api._lua_next(L, index) !== 0) {
      if (api._lua_type(L, -2) === TYPE.string)
        fields[String(this.#string(L, -2))] = this.get(L, -1, depth + 1);
      api._lua_settop(L, -2);
    }
    return fields;
  }

  #pushBytes(L: number, bytes: Uint8Array): void {
    const where = this.#api._malloc(bytes.length + 1);
    this.#api.HEAPU8.set(bytes, where);
    this.#api._lua_pushlstring(L, where, bytes.length);
    this.#api._free(where);
  }

  #pushTable(L: number, value: LuaValue[] | { [key: string]: LuaValue }): void {
    const api = this.#api;
    api._lua_checkstack(L, 4);
    api._lua_createtable(L, 0, 0);
    const entries: [string | number, LuaValue][] = Array.isArray(value)
      ? value.map((entry, i) => [i + 1, entry])
      : Object.entries(value);
    for (const [key, entry] of entries) {
      this.push(L, key);
      this.push(L, entry);
      api._lua_rawset(L, -3);
    }
  }
}
