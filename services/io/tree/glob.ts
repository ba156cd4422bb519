/**
 * Shell globs as fnmatch() without flags understands them (POSIX.1-2017, XCU 2.13.1 and 2.13.2).
 *
 * `*` and `?` match any character, `/` and a leading `.` included; `[...]` with `!` or `^`, ranges and the
 * named classes; a backslash takes the next character literally. Runs in O(pattern * text).
 */

const CLASSES: Record<string, RegExp> = {
  alnum: /[A-Za-z0-9]/,
  alpha: /[A-Za-z]/,
  blank: /[ \t]/,
  cntrl: /\p{Cc}/u,
  digit: /[0-9]/,
  graph: /[\x21-\x7e]/,
  lower: /[a-z]/,
  print: /[\x20-\x7e]/,
  punct: /[!-/:-@[-`{-~]/,
  space: /\s/,
  upper: /[A-Z]/,
  xdigit: /[0-9A-Fa-f]/,
};

/** One step of a pattern: takes one character or not, or is a star. */
type Step = '*' | ((char: string) => boolean);

/** Behind a "[": the rest of a named class. */
const IN_CLASS = /^:[a-z]+:\]/;
const MAX_CLASS = 12;

/** A bracket expression at `from` ("[" is at from - 1), or undefined when it never ends: then "[" is literal. */
function parseBracket(pattern: string, from: number): { step: Step; next: number } | undefined {
  let at = from;
  const negated = pattern[at] === '!' || pattern[at] === '^';
  if (negated) at += 1;
  const tests: ((char: string) => boolean)[] = [];
  for (let first = true; at < pattern.length; first = false) {
    let low = pattern[at] as string;
    if (low === ']' && !first) {
      return { step: (char) => tests.some((test) => test(char)) !== negated, next: at + 1 };
    }
    const named = /^\[:([a-z]+):\]/.exec(pattern.slice(at, at + MAX_CLASS));
    if (named !== null) {
      const expression = CLASSES[named[1] as string];
      if (expression !== undefined) tests.push((char) => expression.test(char));
      at += named[0].length;
      continue;
    }
    if (low === '\\' && at + 1 < pattern.length) low = pattern[++at] as string;
    at += 1;
    if (pattern[at] === '-' && at + 1 < pattern.length && pattern[at + 1] !== ']') {
      const high = pattern[at + 1] === '\\' && at + 2 < pattern.length ? pattern[++at + 1] : pattern[at + 1];
      const [start, end] = [low, high as string];
      tests.push((char) => char >= start && char <= end);
      at += 2;
    } else {
      const literal = low;
      tests.push((char) => char === literal);
    }
  }
  return undefined;
}

function compile(pattern: string): Step[] {
  const steps: Step[] = [];
  // Behind a bracket expression that never ends nothing ends one but the "]" of a named class that was inside of it.
  let unclosed = false;
  const isBracket = (at: number): boolean =>
    !unclosed || IN_CLASS.test(pattern.slice(at, at + MAX_CLASS - 1));
  for (let at = 0; at < pattern.length; ) {
    let char = pattern[at++] as string;
    if (char === '*') {
      if (steps.at(-1) !== '*') steps.push('*');
      continue;
    }
    if (char === '?') {
      steps.push(() => true);
      continue;
    }
    const opens = char === '[' && isBracket(at);
    const bracket = opens ? parseBracket(pattern, at) : undefined;
    if (opens && bracket === undefined) unclosed = true;
    if (bracket !== undefined) {
      steps.push(bracket.step);
      at = bracket.next;
      continue;
    }
    if (char === '\\' && at < pattern.length) char = pattern[at++] as string;
    const literal = char;
    steps.push((other) => other === literal);
  }
  return steps;
}

/** True when `pattern` matches all of `text`. */
export function globMatches(pattern: string, text: string): boolean {
  const steps = compile(pattern);
  let at = 0;
  let step = 0;
  let starStep = -1;
  let starAt = 0;
  // Only the last star can be worth extending: an earlier one took as little as it could.
  while (at < text.length) {
    const current = steps[step];
    if (current === '*') {
      starStep = step++;
      starAt = at;
    } else if (current?.(text[at] as string)) {
      step += 1;
      at += 1;
    } else if (starStep >= 0) {
      step = starStep + 1;
      at = ++starAt;
    } else {
      return false;
    }
  }
  while (steps[step] === '*') step += 1;
  return step === steps.length;
}
