/** Figures of the documented lab as a whole: throughput, CPU, start-up, idle load, memory. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Benchmark, Figure } from './figures.ts';
import { besideHogs } from './hogs.ts';
import { BenchLab, cpuSeconds, loopbackSeconds, memoryBytes, startWeb } from './lab_run.ts';

const MIB = 2 ** 20;
const DOWNLOAD_BYTES = 1024 * MIB;
const IDLE_AFTER_MS = 10_000;
const IDLE_FOR_MS = 10_000;
const STARTS = 5;
const BUSY_BYTES = 256 * MIB;
const TARGET_MB_PER_S = 100;
const TARGET_START_S = 1.5;
const TARGET_IDLE_PERCENT = 2;

const curl = (args: string) =>
  `ld:start({ caps = port() }, "rom/curl -s -S ${args}", { IFCONFIG_IP4_vn0 = "dhcp" })`;

const downloadBy = (port: number, bytes: number) =>
  new BenchLab(port, curl(`-o /dev/null -w %{speed_download} http://mirror/bytes/${bytes}`), [
    '--wait-for',
    'curl',
    '--raw',
    'curl',
  ]);

const download: Benchmark = {
  name: 'download',
  about:
    '1 GiB through the whole chain, beside the same file over kernel loopback; CPU seconds per GB of each process, start-up included',
  async run() {
    const web = await startWeb();
    const lab = downloadBy(web.port, DOWNLOAD_BYTES);
    try {
      await lab.done();
      const rate = Number(lab.stdout) / 1e6;
      const peer = DOWNLOAD_BYTES / 1e6 / (await loopbackSeconds(web.port, DOWNLOAD_BYTES));
      const figures: Figure[] = [
        {
          name: 'download',
          value: rate,
          unit: 'MB/s',
          compared: { name: 'target', value: TARGET_MB_PER_S, unit: 'MB/s' },
        },
        {
          name: 'download, share of kernel loopback curl',
          value: (100 * rate) / peer,
          unit: '%',
          compared: { name: 'kernel loopback curl', value: peer, unit: 'MB/s' },
        },
      ];
      for (const [name, seconds] of lab.sample()) {
        figures.push({
          name: `download, CPU of ${name}`,
          value: seconds / (DOWNLOAD_BYTES / 1e9),
          unit: 's/GB',
        });
      }
      for (const [name, bytes] of lab.memory()) {
        figures.push({ name: `download, memory of ${name} (PSS)`, value: bytes / MIB, unit: 'MiB' });
      }
      figures.push({
        name: 'download, CPU of the web server',
        value: (cpuSeconds(web.pid) ?? 0) / (2 * (DOWNLOAD_BYTES / 1e9)),
        unit: 's/GB',
      });
      return figures;
    } finally {
      await lab.stop();
      await web.stop();
    }
  },
};

/** MB/s of one download by a lab of its own. */
async function downloadRate(bytes: number): Promise<number> {
  const web = await startWeb();
  const lab = downloadBy(web.port, bytes);
  try {
    await lab.done();
    return Number(lab.stdout) / 1e6;
  } finally {
    await lab.stop();
    await web.stop();
  }
}

const busy: Benchmark = {
  name: 'busy',
  about: '256 MiB through the whole chain beside one CPU-bound program for each core',
  async run() {
    const alone = await downloadRate(BUSY_BYTES);
    const beside = await besideHogs(() => downloadRate(BUSY_BYTES));
    return [
      {
        name: 'download beside CPU-bound programs',
        value: beside,
        unit: 'MB/s',
        compared: { name: 'alone', value: alone, unit: 'MB/s' },
      },
    ];
  },
};

const start: Benchmark = {
  name: 'start',
  about: `time from l4lab run to the first byte of the page, best and median of ${STARTS}`,
  async run() {
    const web = await startWeb();
    const times: number[] = [];
    try {
      for (let n = 0; n < STARTS; n++) {
        const lab = new BenchLab(web.port, curl('http://mirror/debian/'), [
          '--wait-for',
          'curl',
          '--raw',
          'curl',
        ]);
        try {
          await lab.done();
          times.push(lab.firstByteMs / 1000);
        } finally {
          await lab.stop();
        }
      }
    } finally {
      await web.stop();
    }
    times.sort((a, b) => a - b);
    const target = { name: 'target', value: TARGET_START_S, unit: 's' };
    return [
      {
        name: 'start to first byte, median',
        value: times[STARTS >> 1] as number,
        unit: 's',
        compared: target,
      },
      { name: 'start to first byte, best', value: times[0] as number, unit: 's', compared: target },
    ];
  },
};

const idle: Benchmark = {
  name: 'idle',
  about: 'CPU of the whole lab from 10 s to 20 s after the page, and memory per process',
  async run() {
    const web = await startWeb();
    // A second client keeps its port, lwIP and DHCP lease while nothing happens.
    const keeper = `${curl('http://mirror/debian/')}\nld:start({ caps = port(), log = { "keeper" } }, "rom/curl -s http://10.0.2.2:1/", { IFCONFIG_IP4_vn0 = "10.0.2.77/24 via 10.0.2.2" })`;
    const lab = new BenchLab(web.port, keeper);
    try {
      await lab.saw(/<\/html>/);
      await sleep(IDLE_AFTER_MS);
      const before = new Map(lab.sample());
      await sleep(IDLE_FOR_MS);
      const after = lab.sample();
      const figures: Figure[] = [];
      let total = 0;
      for (const { name, pid } of lab.processes()) {
        const percent = (100_000 * ((after.get(name) ?? 0) - (before.get(name) ?? 0))) / IDLE_FOR_MS;
        total += percent;
        figures.push({ name: `memory of ${name} (PSS)`, value: memoryBytes(pid) / MIB, unit: 'MiB' });
      }
      figures.unshift({
        name: 'idle CPU of the whole lab',
        value: total,
        unit: '% of core',
        compared: { name: 'target', value: TARGET_IDLE_PERCENT, unit: '%' },
      });
      return figures;
    } finally {
      await lab.stop();
      await web.stop();
    }
  },
};

export const LAB_BENCHMARKS: readonly Benchmark[] = [download, busy, start, idle];
