/** What a pump concludes from the times that it had given up its core for. */
import { expect, it } from 'vitest';
import { Crowd } from './crowd.ts';

/** Yields of `took` ms each with `apart` ms of work between them, for `ms`. Returns when it is over. */
function run(crowd: Crowd, from: number, ms: number, yields: { took: number; apart: number }): number {
  let now = from;
  while (now < from + ms && !crowd.isCrowded(now)) {
    crowd.yielded(now, now + yields.took);
    now += yields.took + yields.apart;
  }
  return now;
}

/** 2.8 ms and more, as beside a program that never sleeps. */
const HOG = { took: 3.6, apart: 0.9 };
/** Between peers that work in turn. */
const PEER = { took: 0.4, apart: 0.1 };

it('finds the core crowded when most of the time goes into long yields', () => {
  const crowd = new Crowd();
  const found = run(crowd, 1000, 10_000, HOG);
  expect(crowd.isCrowded(found)).toBe(true);
  expect(found - 1000).toBeLessThan(100);
});

it('takes no notice of peers, nor of a long yield now and then', () => {
  const crowd = new Crowd();
  let now = 1000;
  for (let n = 0; n < 100; n++) {
    now = run(crowd, now, 50, PEER);
    crowd.yielded(now, now + 5);
    now += 5;
    expect(crowd.isCrowded(now)).toBe(false);
  }
});

it('tries again after a while: one long yield is enough to know, short ones are forgotten', () => {
  const crowd = new Crowd();
  let now = run(crowd, 1000, 10_000, HOG) + 100;
  expect(crowd.isCrowded(now)).toBe(false);
  crowd.yielded(now, now + HOG.took);
  expect(crowd.isCrowded(now + HOG.took)).toBe(true);
  now = run(crowd, now + HOG.took + 100, 100, PEER);
  crowd.yielded(now, now + HOG.took);
  expect(crowd.isCrowded(now + HOG.took)).toBe(false);
});
