import { describe, expect, it } from 'vitest';
import fc from '#common/testing/fast_check';
import { CAPACITY, KNOWN, keyHi, LEARNED, MacTable, MOVED, REPLACED } from './mac_table.ts';

describe('MacTable', () => {
  it('lookup() knows nothing at first', () => {
    expect(new MacTable().lookup(1, 2)).toBe(-1);
  });

  it('learn() tells new, known and moved stations apart', () => {
    const table = new MacTable();
    expect([table.learn(1, 2, 3), table.learn(1, 2, 3), table.learn(1, 2, 4)]).toEqual([
      LEARNED,
      KNOWN,
      MOVED,
    ]);
    expect([table.lookup(1, 2), table.size]).toEqual([4, 1]);
  });

  it('keeps VLANs apart, and addresses that differ in any byte', () => {
    const table = new MacTable();
    const keys = [keyHi(0x0002, 1), keyHi(0x0002, 0xffff), keyHi(0x0102, 1), keyHi(0x0002, 0xfffe)];
    for (const [port, hi] of keys.entries()) table.learn(0xffff_ffff, hi, port);
    expect(keys.map((hi) => table.lookup(0xffff_ffff | 0, hi))).toEqual([0, 1, 2, 3]);
    expect(table.lookup(0x7fff_ffff, keys[0] as number)).toBe(-1);
  });

  it('lookup() passes over what was not seen for longer than the greatest age', () => {
    const table = new MacTable(1, 300);
    table.setTime(1000);
    table.learn(1, 2, 3);
    table.learn(9, 2, 4);
    table.setTime(1300);
    table.learn(9, 2, 4);
    expect([table.lookup(1, 2), table.lookup(9, 2)]).toEqual([3, 4]);
    table.setTime(1301);
    expect([table.lookup(1, 2), table.lookup(9, 2)]).toEqual([-1, 4]);
    expect(table.learn(1, 2, 3)).toBe(KNOWN);
    expect(table.lookup(1, 2)).toBe(3);
  });

  it('learn() lets the oldest place go round-robin when 1024 are full', () => {
    const table = new MacTable();
    for (let n = 0; n < CAPACITY; n++) expect(table.learn(n, 0, 0)).toBe(LEARNED);
    expect(table.learn(5000, 0, 1)).toBe(REPLACED);
    expect([table.lookup(0, 0), table.lookup(1, 0), table.lookup(5000, 0), table.size]).toEqual([
      -1,
      0,
      1,
      CAPACITY,
    ]);
    // A station that moves keeps its place: the next to go is number 1, not the one that moved.
    table.learn(1, 0, 9);
    table.learn(5001, 0, 1);
    expect([table.lookup(1, 0), table.lookup(2, 0)]).toEqual([-1, 0]);
  });

  it('flush() forgets one port and nothing else', () => {
    const table = new MacTable();
    for (let n = 0; n < 600; n++) table.learn(n, 0, n % 3);
    table.flush(1);
    expect(table.size).toBe(400);
    for (let n = 0; n < 600; n++) expect(table.lookup(n, 0)).toBe(n % 3 === 1 ? -1 : n % 3);
  });
});

it('behaves like a map with round-robin places, whatever happens to it', () => {
  const step = fc.record({ flush: fc.boolean(), lo: fc.nat(1500), port: fc.nat(3) });
  fc.assert(
    fc.property(fc.integer(), fc.array(step, { minLength: 1500, maxLength: 4000 }), (seed, steps) => {
      const table = new MacTable(seed);
      const model = new Map<number, { port: number; slot: number }>();
      const slots = new Array<number | undefined>(CAPACITY).fill(undefined);
      let hand = 0;
      for (const [n, { flush, lo, port }] of steps.entries()) {
        if (flush && n % 100 === 0) {
          table.flush(port);
          for (const [key, entry] of model)
            if (entry.port === port) slots[entry.slot] = void model.delete(key);
          continue;
        }
        const known = model.get(lo);
        if (known) known.port = port;
        else {
          if (slots[hand] !== undefined) model.delete(slots[hand] as number);
          slots[hand] = lo;
          model.set(lo, { port, slot: hand });
          hand = (hand + 1) % CAPACITY;
        }
        table.learn(lo, 7, port);
      }
      expect(table.size).toBe(model.size);
      for (let lo = 0; lo <= 1500; lo++) expect(table.lookup(lo, 7)).toBe(model.get(lo)?.port ?? -1);
    }),
    { numRuns: 20 },
  );
});
