/** What crosses between Lua and TypeScript, and how mistakes of a script are told. */

export type LuaValue = string | number | boolean | undefined;

/** A mistake in a script: the message becomes a Lua error with file and line. */
export class ScriptError extends Error {
  override readonly name = 'ScriptError';
}

/** Adds " (rom/ixl.vbus:5)" to the first line of a message. */
export function withPosition(text: string, where: string): string {
  return where === '' ? text : text.replace(/$/m, ` (${where})`);
}
