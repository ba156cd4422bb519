import { describe, expect, it } from 'vitest';
import { verify } from '#common/ipc/capability';
import { isRandomName } from '#common/shm/run_dir';
import { BROKER_GATE, LabSecret } from './secret.ts';

const TEXT = '0123456789abcdef';

describe('LabSecret', () => {
  it('derives the same from the same secret, white space aside, and different things for different purposes', () => {
    const [a, b] = [new LabSecret(TEXT), new LabSecret(`  ${TEXT}\n`)];
    expect(a.gate('channel 1')).toEqual(b.gate('channel 1'));
    expect(a.gate('channel 1').gate).not.toBe(a.gate('channel 2').gate);
    expect(a.gate('channel 1').secret).not.toEqual(a.gate('channel 2').secret);
    expect(a.name('x')).not.toBe(new LabSecret(`${TEXT}0`).name('x'));
    expect([isRandomName(a.name('x')), isRandomName(BROKER_GATE)]).toEqual([true, true]);
    expect(a.object('x')).toBeGreaterThan(0);
  });

  it('only its holder can call the broker', () => {
    const { broker, brokerCapability } = new LabSecret(TEXT);
    expect(verify(broker, brokerCapability)).toBe(true);
    expect(verify(broker, new LabSecret('another secret, longer').brokerCapability)).toBe(false);
  });

  it('refuses a text that can be guessed', () => {
    expect(() => new LabSecret(' short ')).toThrow('it must have at least 16 characters: it has 5');
  });
});
