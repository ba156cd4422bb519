/** The commands that look into running switches: `stats`, `capture`, `port`. */
import type { Command } from 'commander';
import { type CaptureOptions, capture } from './capture.ts';
import {
  type AddOptions,
  type PortOptions,
  portAdd,
  portDel,
  portList,
  portRun,
  type RunOnPortOptions,
} from './port.ts';
import { type StatsOptions, stats } from './stats.ts';

const LAB = ['--lab <id>', 'which lab, if several are running'] as const;
const SWITCH = ['--switch <task>', 'which switch, if the lab has several'] as const;
const collect = (value: string, before: string[] = []) => [...before, value];

/** Adds the commands; `finish` is told the exit status. */
export function addSwitchCommands(l4lab: Command, finish: (status: number) => void): void {
  l4lab
    .command('stats')
    .description('shows what goes through the switches of a running lab: ports, rates, drops, rings')
    .argument('[switch]', 'only the switch of that task')
    .option('-w, --watch', 'goes on, once per interval, until Ctrl-C')
    .option('--interval <seconds>', 'time between two readings; 0: one reading, no rates', '1')
    .option('--json', 'as JSON; with --watch one object a line')
    .option(...LAB)
    .action(async (name: string | undefined, options: StatsOptions) => finish(await stats(name, options)));

  l4lab
    .command('capture')
    .description('shows the frames of ports of a running lab, or writes them as pcapng')
    .argument('<port...>', 'names or numbers, as l4lab port list shows them')
    .option('-w, --write <file>', 'pcapng to that file; - for stdout')
    .option('-c, --count <n>', 'ends after that many frames')
    .option('-s, --snaplen <bytes>', 'keeps only the first bytes of each frame')
    .option(...SWITCH)
    .option(...LAB)
    .addHelpText(
      'after',
      '\nExample:\n  l4lab capture curl -w - | wireshark -k -i -\nA reader that is too slow loses frames of the capture; the ports do not notice.\n',
    )
    .action(async (ports: string[], options: CaptureOptions) => finish(await capture(ports, options)));

  const port = l4lab
    .command('port')
    .enablePositionalOptions()
    .description('ports of a running switch: list, add, run, del');
  port
    .command('list')
    .description('lists the ports')
    .option('--json', 'as JSON')
    .option(...SWITCH)
    .option(...LAB)
    .action(async (options: PortOptions) => finish(await portList(options)));
  port
    .command('add')
    .description('makes a port')
    .argument('<name>', 'at most 19 characters')
    .argument('[args...]', "as the factory's: vlan=access=7, mac=52:54:00:00:00:07, ds-max=4, type=monitor")
    .option(
      '--run <program>',
      'starts that program on it, e.g. "rom/curl -s http://10.0.2.2/"; the port goes with it',
    )
    .option(
      '--env <name=value>',
      'environment of the program (repeatable); default IFCONFIG_IP4_vn0=dhcp',
      collect,
    )
    .option('--wait', 'ends with the program, with its exit status')
    .option(...SWITCH)
    .option(...LAB)
    .action(async (name: string, args: string[], options: AddOptions) =>
      finish(await portAdd(name, args, options)),
    );
  port
    .command('run')
    .description('starts a program on a port that was made with l4lab port add')
    .argument('<port>', 'name or number')
    .argument('<program...>', 'e.g. rom/curl -s http://10.0.2.2/')
    .option(
      '--env <name=value>',
      'environment of the program (repeatable); default IFCONFIG_IP4_vn0=dhcp',
      collect,
    )
    .option('--wait', 'ends with the program, with its exit status')
    .option(...SWITCH)
    .option(...LAB)
    .passThroughOptions()
    .action(async (name: string, argv: string[], options: RunOnPortOptions) =>
      finish(await portRun(name, argv, options)),
    );
  port
    .command('del')
    .description("takes a port away; its client's device is gone")
    .argument('<port>', 'name or number')
    .option(...SWITCH)
    .option(...LAB)
    .action(async (name: string, options: PortOptions) => finish(await portDel(name, options)));
  for (const command of [port, ...port.commands]) {
    const name = command === port ? 'l4lab port' : `l4lab port ${command.name()}`;
    command.showHelpAfterError(`(${name} --help tells what there is)`);
  }
}
