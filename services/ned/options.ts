/**
 * ned's command line, as GNU getopt_long treats it with a leading '+' (l4re-facts.md 1.1): options end at the
 * first word that is none; unknown ones are reported and ignored.
 */

export interface NedOptions {
  /** What happens after the script: stay, end at once, end when no task runs any more. */
  readonly after: 'serve' | 'exit' | 'wait-and-exit';
  readonly statements: readonly string[];
  /** Undefined: the chunk is read from standard input (no script, or `-`). */
  readonly script: string | undefined;
  readonly args: readonly string[];
  /** getopt's own complaints. */
  readonly messages: readonly string[];
}

/** Long options; all prefixes of a name are accepted as long as it stays unique. */
const LONG = ['execute'];

/** Reads argv[1..]; `program` is argv[0], for messages. Never fails. */
export function parseOptions(program: string, words: readonly string[]): NedOptions {
  const rest = [...words];
  const after = rest[0] === '--exit' ? 'exit' : rest[0] === '--wait-and-exit' ? 'wait-and-exit' : 'serve';
  if (after !== 'serve') rest.shift();
  const statements: string[] = [];
  const messages: string[] = [];
  const complain = (text: string) => messages.push(`${program}: ${text}`);

  while (rest.length > 0 && rest[0] !== '-' && rest[0]?.startsWith('-')) {
    const word = rest.shift() as string;
    if (word === '--') break;
    if (word.startsWith('--')) longOption(word, rest, statements, complain);
    else shortOptions(word, rest, statements, complain);
  }
  const [script, ...args] = rest;
  return { after, statements, script: script === '-' ? undefined : script, args, messages };
}

function longOption(
  word: string,
  rest: string[],
  statements: string[],
  complain: (text: string) => void,
): void {
  const equals = word.indexOf('=');
  const name = equals < 0 ? word.slice(2) : word.slice(2, equals);
  if (!LONG.some((long) => long.startsWith(name))) {
    complain(`unrecognized option '${word}'`);
    return;
  }
  const argument = equals < 0 ? rest.shift() : word.slice(equals + 1);
  if (argument === undefined) complain(`option '${word}' requires an argument`);
  else statements.push(argument);
}

function shortOptions(
  word: string,
  rest: string[],
  statements: string[],
  complain: (text: string) => void,
): void {
  for (let i = 1; i < word.length; i++) {
    if (word[i] !== 'e') {
      complain(`invalid option -- '${word[i]}'`);
      continue;
    }
    const argument = i + 1 < word.length ? word.slice(i + 1) : rest.shift();
    if (argument === undefined) complain("option requires an argument -- 'e'");
    else statements.push(argument);
    return;
  }
}
