import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { ifUnused, isUsed, ownDir, shareDir } from './claims.ts';
import { claimLab, labIn, useLab } from './registry.ts';
import { brokerSecret, findSecret } from './secret.ts';

const CAP = { gate: '0'.repeat(32), proof: '' };
const GIVEN = { command: ['x.cfg'], lab: CAP, control: CAP, external: true };

let base: string;
let dir: string;
beforeEach(() => {
  base = mkdtempSync('/tmp/l4lab-claims-');
  dir = join(base, 'broker');
});
afterEach(() => rmSync(base, { recursive: true, force: true }));

describe('claims', () => {
  it('one owner, any number of components, and nobody removes what they use', () => {
    const owner = ownDir(dir);
    expect([owner, ownDir(dir)]).toEqual([expect.anything(), undefined]);
    const [a, b] = [shareDir(dir), shareDir(dir)];
    const removed: string[] = [];
    const tryRemove = (who: string) => ifUnused(dir, () => removed.push(who));
    expect(tryRemove('all are there')).toBe(false);
    owner?.release();
    expect([isUsed(dir), tryRemove('components are there')]).toEqual([true, false]);
    a.release();
    b.release();
    expect([isUsed(dir), tryRemove('nobody is there'), removed]).toEqual([false, true, ['nobody is there']]);
  });

  it('ifUnused() makes nothing of a directory that is gone, or is none', () => {
    const fail = () => expect.unreachable();
    expect([ifUnused(dir, fail), existsSync(dir)]).toEqual([false, false]);
    const file = join(base, 'file');
    writeFileSync(file, '');
    expect(ifUnused(file, fail)).toBe(false);
  });

  it('a directory that others come to and leave all the time is whole for whoever is in it', async () => {
    const worker = `import { useLab } from ${JSON.stringify(join(import.meta.dirname, 'registry.ts'))};
      import { statSync } from 'node:fs';
      for (let n = 0; n < 150; n++) {
        const lab = useLab(${JSON.stringify(dir)});
        for (const part of ['g', 'm', 'b', 't', 'c']) statSync(${JSON.stringify(dir)} + '/' + part);
        lab.release();
      }`;
    const words = ['--conditions=source', '--import', 'tsx', '--input-type=module', '--eval', worker];
    const children: ChildProcess[] = [1, 2, 3].map(() =>
      spawn(process.execPath, words, { stdio: ['ignore', 'ignore', 'inherit'] }),
    );
    const ends = await Promise.all(children.map((child) => once(child, 'exit')));
    expect(ends.map(([status]) => status)).toEqual([0, 0, 0]);
    expect(existsSync(dir)).toBe(false);
  });
});

describe('the directory of an external lab', () => {
  it('goes with its last user, secret and all', () => {
    const claim = claimLab(dir);
    const { made } = brokerSecret(dir, {});
    const lab = claim.publish({ ...GIVEN, madeSecret: made });
    const component = useLab(dir);
    lab.release();
    expect(labIn(dir)?.command).toEqual(['x.cfg']);
    component.release();
    expect([existsSync(dir), labIn(dir)]).toEqual([false, undefined]);
  });

  it('is left as it is by a broker that does not get it', () => {
    const secret = { L4LAB_SECRET: 'x'.repeat(32) };
    const claim = claimLab(dir);
    const lab = claim.publish({ ...GIVEN, madeSecret: brokerSecret(dir, secret).made });
    expect(() => claimLab(dir)).toThrow(/one is running there \(x\.cfg, process \d+\)/);
    expect(findSecret(dir, {})).toBeUndefined();
    lab.release();
    lab.release();
    expect(existsSync(dir)).toBe(false);
  });

  it('a secret of a broker that was killed is used again, or goes when another one is given', () => {
    const claim = claimLab(dir);
    const { secret } = brokerSecret(dir, {});
    expect(brokerSecret(dir, {}).secret.text).toBe(secret.text);
    brokerSecret(dir, { L4LAB_SECRET: 'x'.repeat(32) });
    expect(findSecret(dir, {})).toBeUndefined();
    claim.release();
    expect(existsSync(dir)).toBe(false);
  });
});
