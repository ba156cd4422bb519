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

/** @param argv argv[0] is the program; empty arguments (doubled blanks in a script) are skipped */
export function parseOptions(argv: readonly string[]): Options {
  const program = argv[0] ?? 'io';
  const files: string[] = [];
  const errors: string[] = [];
  const numbers = new Map<string, number>();
  let verbosity = 1;
  let transparentMsi = false;
  for (let at = 1; at < argv.length; at++) {
    const word = argv[at] as string;
    if (word === '--') {
      files.push(...argv.slice(at + 1));
      break;
    }
    if (word === '') continue;
    if (word.startsWith('--')) {
      const [given, value] = splitOnce(word.slice(2), '=');
      const candidates = LONG.filter((name) => name.startsWith(given));
      const name = LONG.includes(given) ? given : candidates.length === 1 ? candidates[0] : undefined;
      if (name === undefined) {
        errors.push(
          `${program}: ${candidates.length > 1 ? 'ambiguous' : 'unrecognized'} option '--${given}'`,
        );
      } else if (WITH_NUMBER.includes(name)) {
        const text = value ?? argv[++at];
        if (text === undefined) errors.push(`${program}: option '--${name}' requires an argument`);
        else numbers.set(name, parseCNumber(text));
      } else if (value !== undefined) {
        errors.push(`${program}: option '--${name}' doesn't allow an argument`);
      } else if (name === 'verbose') {
        verbosity += 1;
      } else {
        transparentMsi = true;
      }
    } else if (word.startsWith('-') && word.length > 1) {
      for (const letter of word.slice(1)) {
        if (letter === 'v') verbosity += 1;
        else errors.push(`${program}: invalid option -- '${letter}'`);
      }
    } else {
      files.push(word);
    }
  }
  return {
    verbosity,
    transparentMsi,
    traceMask: numbers.get('trace'),
    acpiDebugLevel: numbers.get('acpi-debug-level'),
    files: files.filter((file) => file !== ''),
    errors,
  };
}

function splitOnce(text: string, separator: string): [string, string | undefined] {
  const at = text.indexOf(separator);
  return at < 0 ? [text, undefined] : [text.slice(0, at), text.slice(at + 1)];
}
