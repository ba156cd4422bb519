/** The target of a request [RFC 9112 §3.2] as names from the root of the site, or why it is refused. */

/** Longest target, in bytes. Names in rom are short. */
export const MAX_TARGET = 4096;

export type Target =
  | { readonly names: readonly string[] /** It ended in '/'. */; readonly directory: boolean }
  | { readonly status: 400 | 414; readonly reason: string };

const ABSOLUTE_FORM = /^https?:\/\/[^/?#]*/i;

/** Takes the path of a target apart. Nothing that leads out of the site comes through: each name is one plain name. */
export function parseTarget(target: string): Target {
  if (target.length > MAX_TARGET) return refuse(414, `the target must have at most ${MAX_TARGET} bytes`);
  const rest = target.replace(ABSOLUTE_FORM, '');
  const path = (/^[^?#]*/.exec(rest)?.[0] ?? '') || '/';
  if (!path.startsWith('/')) return refuse(400, "the target must start with '/'");
  const names: string[] = [];
  for (const part of path.slice(1).split('/')) {
    const name = decode(part);
    if (name === undefined)
      return refuse(400, "'%' must be followed by two hexadecimal digits of UTF-8 text");
    if (name === '.' || name === '..' || /[/\\\0]/.test(name)) {
      return refuse(400, "no part of the path may be '.' or '..' or have a slash, backslash or NUL");
    }
    names.push(name);
  }
  const directory = names.at(-1) === '';
  if (directory) names.pop();
  if (names.includes('')) return refuse(400, "no part of the path may be empty, as in '//'");
  return { names, directory };
}

function decode(part: string): string | undefined {
  try {
    return decodeURIComponent(part);
  } catch {
    return undefined;
  }
}

function refuse(status: 400 | 414, reason: string): Target {
  return { status, reason };
}
