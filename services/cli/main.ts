/** The command line `l4lab`. */
import { Command, CommanderError, Option } from 'commander';
import { L4Error } from '#common/ipc/errors';
import { VERSION } from '#common/version';
import { type BrokerOptions, broker } from './broker.ts';
import { type ComponentOptions, component } from './component/component.ts';
import { type ComposeOptions, compose } from './generate/compose.ts';
import { type Pm2Options, pm2 } from './generate/pm2.ts';
import { health } from './health.ts';
import { type LogsOptions, logs } from './logs.ts';
import { isSystemError, systemProblem, UsageError } from './problem.ts';
import { formatViews, views } from './ps.ts';
import { labIsRunning, type RunOptions, run } from './run.ts';
import { stop } from './stop.ts';
import { addSwitchCommands } from './switch_commands.ts';

const EXIT_USAGE = 2;
const collect = (value: string, before: string[] = []) => [...before, value];

const RUN_DIR_TEXT = 'directory where broker and components meet, on a tmpfs; default <run base>/broker';
const SECRET_TEXT = `
Who holds the secret of the lab may become its components: L4LAB_SECRET_FILE names a file with it, or
L4LAB_SECRET is the secret. If neither is set the broker makes one and leaves it in its run directory.
`;

/** What every command that runs a script takes. */
function labCommand(command: Command): Command {
  return command
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
    .option(
      '--host-forward <[host:]port=ip:port>',
      "a port of this host that leads to a guest's (repeatable; udp: before it for UDP)",
      collect,
    )
    .option('--json', 'log lines as JSON')
    .option(
      '-e, --execute <statement>',
      'Lua statement that ned runs before the script (repeatable)',
      collect,
    )
    .option(
      '--restart <task[=policy]>',
      'whether that task is started again when it ends: no, on-failure (default), always (repeatable)',
      collect,
    );
}

function program(finish: (status: number) => void): Command {
  const l4lab = new Command('l4lab')
    .enablePositionalOptions()
    .description(
      'Runs L4Re networking configurations on this machine: a ned script and its components as processes.',
    )
    .version(VERSION)
    .exitOverride()
    .configureOutput({ outputError: (text, write) => write(text.replace(/^error: /, 'l4lab: ')) });

  labCommand(l4lab.command('run'))
    .description('runs a ned script in the foreground; Ctrl-C ends everything')
    .option('--wait-for <task>', 'ends when that task ends, with its exit status')
    .option('--raw <task>', "that task's stdout goes to stdout byte for byte, every log line to stderr")
    .addOption(new Option('--exit', 'ned ends when the script has ended').conflicts('waitAndExit'))
    .option('--wait-and-exit', 'ned ends when all tasks have ended')
    .addHelpText(
      'after',
      '\nExample:\n  l4lab run deploy/labs/curl/curl.cfg --wait-for curl --raw curl > page.html\n',
    )
    .action(async (script: string, args: string[], options: RunOptions) =>
      finish(await run(script, args, options)),
    );

  labCommand(l4lab.command('broker'))
    .description('runs a ned script whose tasks are started by others, as l4lab component TASK')
    .option('--run-dir <dir>', RUN_DIR_TEXT)
    .addHelpText('after', SECRET_TEXT)
    .action(async (script: string, args: string[], options: BrokerOptions) =>
      finish(await broker(script, args, options)),
    );

  l4lab
    .command('component')
    .description('becomes a task of the broker, in this process; ends with its exit status')
    .argument('<task>', 'name of the task in the script, e.g. curl; machine is one as well')
    .option('--run-dir <dir>', RUN_DIR_TEXT)
    .option(
      '--wait <seconds>',
      'ends with status 1 if the task has not begun by then; default: waits for the broker as long as it takes',
    )
    .addHelpText('after', SECRET_TEXT)
    .action(async (task: string, options: ComponentOptions) => finish(await component(task, options)));

  l4lab
    .command('health')
    .description('tells whether a task of the broker is ready (serves); status 0 or 1')
    .argument('<task>', 'name of the task, or ned for the broker itself')
    .option('--run-dir <dir>', RUN_DIR_TEXT)
    .addHelpText('after', SECRET_TEXT)
    .action(async (task: string, options: { runDir?: string }) => finish(await health(task, options)));

  labCommand(l4lab.command('compose'))
    .description('writes a compose file for a ned script: one container for each component')
    .option('--web <name>', 'profile demo: a web server that answers to this name, e.g. ftp.de.debian.org')
    .option('--tap <script>', 'profile tap: another lab, in one container, behind a TAP interface')
    .addHelpText(
      'after',
      '\nExample:\n  l4lab compose net.cfg > docker-compose.yml\nThe script is read, and nothing that it starts runs meanwhile.\n',
    )
    .action(async (script: string, args: string[], options: ComposeOptions) =>
      finish(await compose(script, args, options)),
    );

  labCommand(l4lab.command('pm2'))
    .description('writes an ecosystem file for pm2: one app for each component of a ned script')
    .option('--web <name>', 'adds a web server that answers to this name, e.g. ftp.de.debian.org')
    .option('-o, --output <file>', 'where to (its directory must be there); default: standard output')
    .addHelpText(
      'after',
      '\nExample:\n  l4lab pm2 -o ecosystem.config.cjs net.cfg && npx pm2 start ecosystem.config.cjs\nThe script is read, and nothing that it starts runs meanwhile.\n',
    )
    .action(async (script: string, args: string[], options: Pm2Options) =>
      finish(await pm2(script, args, options)),
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
      for (const { how, id, command, problem } of json ? [] : stopped) {
        if (problem === undefined) console.log(`${how} ${id}  ${command.join(' ')}`);
        else console.error(`l4lab: ${problem}`);
      }
      finish(stopped.some(({ how }) => how === 'failed') ? EXIT_USAGE : 0);
    });
  addSwitchCommands(l4lab, finish);
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
