/**
 * Io's command line: options and files in any order, as getopt_long permutes them.
 */

export interface Options {
  /** 1 error, 2 warn, 3 info, 4 debug, 5 debug2, 6 all. */
  readonly verbosity: number;
  readonly transparentMsi: boolean;
  readonly traceMask: number | undefined;
  readonly acpiDebugLevel: number | undefined;
  /** Configuration files in order. */
  readonly files: readonly string[];
  /** Complaints about options that were skipped, in getopt's words. */
  readonly errors: readonly string[];
}

const WITH_NUMBER = ['trace', 'acpi-debug-level'];
const LONG = ['verbose', 'transparent-msi', ...WITH_NUMBER];

/** A number as C's strtoul(text, 0, 0) reads it: decimal, 0x hexadecimal, 0 octal; what follows is ignored. */
export function parseCNumber(text: string): number {
  const [, hex, octal, decimal] = /^\s*(?:0[xX]([0-9a-fA-F]+)|0([0-7]*)|([1-9][0-9]*))/.exec(text) ?? [];
  if (hex !== undefined) return Number.parseInt(hex, 16) >>> 0;
  if (octal !== undefined) return octal === '' ? 0 : Number.parseInt(octal, 8) >>> 0;
  return decimal === undefined ? 0 : Number(decimal) >>> 0;
}

/** What has been read so far. */
interface Reading {
  readonly program: string;
  /** Words not looked at yet. */
  readonly rest: string[];
  readonly files: string[];
  readonly errors: string[];
  readonly numbers: Map<string, number>;
  verbosity: number;
  transparentMsi: boolean;
}

/** @param argv argv[0] is the program; empty arguments (doubled blanks in a script) are skipped */
export function parseOptions([program = 'io', ...words]: readonly string[]): Options {
  const reading: Reading = {
    program,
    rest: words.filter((word) => word !== ''),
    files: [],
    errors: [],
    numbers: new Map(),
    verbosity: 1,
    transparentMsi: false,
  };
  for (let word = reading.rest.shift(); word !== undefined; word = reading.rest.shift()) {
    if (word === '--') reading.files.push(...reading.rest.splice(0));
    else if (word.startsWith('--')) longOption(reading, word.slice(2));
    else if (word.startsWith('-') && word !== '-') shortOptions(reading, word.slice(1));
    else reading.files.push(word);
  }
  const { numbers, verbosity, transparentMsi, files, errors } = reading;
  const [traceMask, acpiDebugLevel] = WITH_NUMBER.map((name) => numbers.get(name));
  return { verbosity, transparentMsi, traceMask, acpiDebugLevel, files, errors };
}

/** `--name`, `--name=value` or `--name value`; names may be shortened as long as they are unique. */
function longOption(reading: Reading, word: string): void {
  const complain = (text: string): void => void reading.errors.push(`${reading.program}: ${text}`);
  const [given, value] = splitOnce(word, '=');
  const candidates = LONG.filter((long) => long.startsWith(given));
  const name = LONG.includes(given) ? given : candidates.length === 1 ? candidates[0] : undefined;
  if (name === undefined) {
    complain(`${candidates.length > 1 ? 'ambiguous' : 'unrecognized'} option '--${given}'`);
  } else if (WITH_NUMBER.includes(name)) {
    const text = value ?? reading.rest.shift();
    if (text === undefined) complain(`option '--${name}' requires an argument`);
    else reading.numbers.set(name, parseCNumber(text));
  } else if (value !== undefined) {
    complain(`option '--${name}' doesn't allow an argument`);
  } else if (name === 'verbose') {
    reading.verbosity += 1;
  } else {
    reading.transparentMsi = true;
  }
}

function shortOptions(reading: Reading, letters: string): void {
  for (const letter of letters) {
    if (letter === 'v') reading.verbosity += 1;
    else reading.errors.push(`${reading.program}: invalid option -- '${letter}'`);
  }
}

function splitOnce(text: string, separator: string): [string, string | undefined] {
  const at = text.indexOf(separator);
  return at < 0 ? [text, undefined] : [text.slice(0, at), text.slice(at + 1)];
}
