/**
 * The Lua text behind the names `Io` and `wrap`, as one chunk.
 *
 * Every part sees the table `lib`, through which the parts know one another, and adds to it or to the globals.
 * The chunk's value is the function that runs a file.
 */
import { BODIES } from './bodies.lua.ts';
import { HOST } from './host.lua.ts';
import { QUERIES } from './queries.lua.ts';
import { RESOURCES } from './resources.lua.ts';
import { RUN } from './run.lua.ts';
import { VBUSSES } from './vbusses.lua.ts';

const PARTS = [HOST, RESOURCES, QUERIES, BODIES, VBUSSES, RUN];

/** A file that gives a library another meaning must not change ours. */
const OWN = `
local error, ipairs, load, next, pairs, rawget, rawset, select, setmetatable, tonumber, tostring, type, xpcall =
  error, ipairs, load, next, pairs, rawget, rawset, select, setmetatable, tonumber, tostring, type, xpcall
local debug, string, table, Io, lib = debug, string, table, {}, {}
`;

/** Takes the function `__host` from the globals; see host.lua.ts. */
export const LIBRARY = `${OWN}${PARTS.map((part) => `do${part}end`).join('\n')}\n_G.Io = Io\nreturn lib.run_file`;
