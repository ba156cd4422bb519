/** The command line `l4lab`. */
import { Command, CommanderError, Option } from 'commander';
import { L4Error } from '#common/ipc/errors';
import { type LogsOptions, logs } from './logs.ts';
import { isSystemError, systemProblem, UsageError } from './problem.ts';
import { formatViews, views } from './ps.ts';
import { labIsRunning, type RunOptions, run } from './run.ts';
import { stop } from './stop.ts';

const EXIT_USAGE = 2;
const collect = (value: string, before: string[] = []) => [...before, value];

function program(finish: (status: number) => void): Command {
  const l4lab = new Command('l4lab')
    .enablePositionalOptions()
    .description(
      'Runs L4Re networking configurations on this machine: a ned script and its components as processes.',
    )
    .version('0.1.0')
    .exitOverride()
    .configureOutput({ outputError: (text, write) => write(text.replace(/^error: /, 'l4lab: ')) });

  l4lab
    .command('run')
    .description('runs a ned script in the foreground; Ctrl-C ends everything')
    .argument('<script>', 'ned script (Lua); its directory becomes part of rom')
    .argument('[args...]', 'arguments of the script: arg[1], arg[2], ...')
    .option(
      '--rom <dir>',
      "adds a directory to rom (repeatable; the script's own and the built-in programs are always there)",
      collect,
    )
    .option(
      '--nic <model[,mac=M][,wire=W]>',
      'one NIC (repeatable; default e1000,mac=52:54:00:12:34:56,wire=user); --nic none for no NIC',
      collect,
    )
    .option('--host <name=ip>', "a fixed name answered by the user wire's DNS (repeatable)", collect)
    .option(
      '--guest-forward <ip:port=host:port>',
      'a guest-side address that leads to a host address (repeatable)',
      collect,
    )
    .option('--wait-for <task>', 'ends when that task ends, with its exit status')
    .option('--raw <task>', "that task's stdout goes to stdout byte for byte, every log line to stderr")
    .option('--json', 'log lines as JSON')
    .option(
      '-e, --execute <statement>',
      'Lua statement that ned runs before the script (repeatable)',
      collect,
    )
    .addOption(new Option('--exit', 'ned ends when the script has ended').conflicts('waitAndExit'))
    .option('--wait-and-exit', 'ned ends when all tasks have ended')
    .addHelpText(
      'after',
      '\nExample:\n  l4lab run deploy/labs/curl/curl.cfg --wait-for curl --raw curl > page.html\n',
    )
    .action(async (script: string, args: string[], options: RunOptions) =>
      finish(await run(script, args, options)),
    );

  l4lab
    .command('ps')
    .description('lists the running labs of this user and their tasks')
    .option('--json', 'as JSON')
    .action(async ({ json }: { json?: boolean }) => {
      const labs = await views();
      console.log(json ? JSON.stringify(labs, null, 2) : formatViews(labs));
      finish(0);
    });

  l4lab
    .command('logs')
    .description('prints what the tasks of a running lab have printed')
    .argument('[task...]', 'only these tasks')
    .option('-f, --follow', 'goes on with new lines until the lab ends')
    .option('--lab <id>', 'which lab, if several are running')
    .option('--json', 'as JSON, one record a line')
    .action(async (tasks: string[], options: LogsOptions) => finish(await logs(tasks, options)));

  l4lab
    .command('stop')
    .description('ends running labs: all of this user, or the named ones')
    .argument('[lab...]', 'ids as l4lab ps shows them')
    .option('--json', 'as JSON')
    .action(async (ids: string[], { json }: { json?: boolean }) => {
      const stopped = await stop(ids);
      if (json) console.log(JSON.stringify(stopped));
      else if (stopped.length === 0) console.log('No lab is running.');
      for (const lab of json ? [] : stopped) console.log(`${lab.how} ${lab.id}  ${lab.command.join(' ')}`);
      finish(0);
    });
  for (const command of [l4lab, ...l4lab.commands]) {
    const name = command === l4lab ? 'l4lab' : `l4lab ${command.name()}`;
    command.showHelpAfterError(`(${name} --help tells what there is)`);
  }
  return l4lab;
}

/** Runs the command line; returns the exit status. */
async function main(argv: readonly string[]): Promise<number> {
  let status = 0;
  const command = program((result) => {
    status = result;
  });
  try {
    await command.parseAsync([...argv], { from: 'user' });
    return status;
  } catch (err) {
    if (err instanceof CommanderError) return err.exitCode === 0 ? 0 : EXIT_USAGE;
    if (err instanceof UsageError || err instanceof L4Error) {
      console.error(`l4lab: ${err.message}`);
      return EXIT_USAGE;
    }
    if (isSystemError(err)) {
      console.error(`l4lab: ${systemProblem(err)}`);
      return EXIT_USAGE;
    }
    throw err;
  }
}

// A reader of our output that goes away (`| head`) ends us quietly, as it does any Unix program; `run` takes its lab
// away first.
process.stdout.on('error', () => {
  if (!labIsRunning()) process.exit(0);
});
process.exitCode = await main(process.argv.slice(2));
