/** `l4lab broker`: a ned script whose tasks are started by others. */
import { watchKeeper } from './keeper.ts';
import { Lab, type LabOptions } from './lab.ts';
import { claimLab } from './registry.ts';
import { interruption, labOptions, printer, type RunOptions, reportEnd } from './run.ts';
import { brokerDir } from './run_base.ts';
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
  const interrupted = interruption();
  const lab = startBroker(given, brokerDir(options.runDir));
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

/** The directory first: who does not get it must not leave a secret there. */
function startBroker(options: LabOptions, dir: string): Lab {
  const claim = claimLab(dir);
  try {
    const { secret, made } = brokerSecret(claim.dir, process.env);
    return new Lab({ ...options, external: { secret, claim, madeSecret: made } });
  } catch (err) {
    claim.release();
    throw err;
  }
}
