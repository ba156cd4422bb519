/** `npm run bench [-- NAME...] [--json]`: runs the named benchmarks, or all, and prints their figures. */
import { type Benchmark, type Figure, formatFigure } from './figures.ts';
import { LAB_BENCHMARKS } from './lab.ts';
import { SWITCH_BENCHMARKS } from './switch.ts';

const BENCHMARKS = [...LAB_BENCHMARKS, ...SWITCH_BENCHMARKS];

function usage(): string {
  const names = BENCHMARKS.map(({ name, about }) => `  ${name.padEnd(16)} ${about}`);
  return ['npm run bench [-- NAME...] [--json]', '', ...names].join('\n');
}

function isNamed({ name, group }: Benchmark, wanted: string): boolean {
  return wanted === name || wanted === group;
}

async function main(args: readonly string[]): Promise<number> {
  const names = args.filter((arg) => !arg.startsWith('-'));
  const unknown = names.filter((name) => !BENCHMARKS.some((benchmark) => isNamed(benchmark, name)));
  const options = args.filter((arg) => arg.startsWith('-') && arg !== '--json');
  if (unknown.length > 0 || options.length > 0) {
    if (options.some((option) => option !== '--help'))
      console.error(`Cannot run bench as there is no ${[...unknown, ...options].join(', ')}`);
    console.log(usage());
    return options.includes('--help') ? 0 : 2;
  }
  const print = (figure: Figure) =>
    console.log(args.includes('--json') ? JSON.stringify(figure) : formatFigure(figure));
  for (const benchmark of BENCHMARKS) {
    if (names.length > 0 && !names.some((name) => isNamed(benchmark, name))) continue;
    for (const figure of await benchmark.run()) print(figure);
  }
  return 0;
}

process.exitCode = await main(process.argv.slice(2));
