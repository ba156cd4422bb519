/** `l4lab broker`: a ned script whose tasks are started by others. */
import { resolve } from 'node:path';
import { watchKeeper } from './keeper.ts';
import { Lab } from './lab.ts';
import { brokerDir, requirePrivate } from './registry.ts';
import { interruption, labOptions, printer, type RunOptions, reportEnd } from './run.ts';
import { brokerSecret } from './secret.ts';

export type BrokerOptions = Omit<RunOptions, 'exit' | 'waitAndExit' | 'waitFor' | 'raw'> & {
  readonly runDir?: string;
};

/** Runs until ned ends or we are asked to end; components go on. Returns the exit status. */
export async function broker(
  script: string,
  args: readonly string[],
  options: BrokerOptions,
): Promise<number> {
  const given = labOptions(script, args, options);
  const dir = resolve(brokerDir(options.runDir));
  requirePrivate(dir);
  const { secret, made } = brokerSecret(dir, process.env);
  const interrupted = interruption();
  const lab = new Lab({ ...given, external: { secret, dir, madeSecret: made } });
  lab.on('log', printer(options));
  const moved = new Promise<number>((resolveStatus) => {
    void watchKeeper(
      (text) => console.error(`l4lab: broker: ${text}`),
      () => resolveStatus(1),
    );
  });
  const status = await Promise.race([
    interrupted,
    moved,
    lab.ended.then((end) => (lab.stopping ? 1 : reportEnd(end, undefined))),
  ]);
  await lab.stop();
  return status;
}
