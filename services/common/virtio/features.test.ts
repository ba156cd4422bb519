import { expect, it } from 'vitest';
import * as f from './features.ts';

it('featureSet() makes the words that the switch offers (F3.7)', () => {
  const base = [f.NET_F_MRG_RXBUF, f.F_INDIRECT_DESC, f.F_VERSION_1];
  expect(f.featureSet(...base)).toEqual({ lo: 0x10008000, hi: 1 });
  expect(f.featureSet(f.NET_F_MAC, ...base)).toEqual({ lo: 0x10008020, hi: 1 });
});

it('words are unsigned, also with bit 31 and 63', () => {
  const set = f.featureSet(31, 63);
  expect(set).toEqual({ lo: 2 ** 31, hi: 2 ** 31 });
  expect([f.hasFeature(set, 31), f.hasFeature(set, 63), f.hasFeature(set, 32)]).toEqual([true, true, false]);
  expect(f.intersect(set, f.featureSet(31))).toEqual({ lo: 2 ** 31, hi: 0 });
  expect(f.without(set, f.featureSet(31))).toEqual({ lo: 0, hi: 2 ** 31 });
  expect([f.isEmpty(set), f.isEmpty(f.featureSet())]).toEqual([false, true]);
});

it('featureNames() names what it knows', () => {
  expect(f.featureNames(f.featureSet(f.NET_F_MAC, f.F_VERSION_1, 63))).toBe('MAC VERSION_1 bit 63');
  expect(f.featureNames(f.featureSet())).toBe('none');
});
