/** The closing line of test runs that go well, badly, and worse. */
import { execFile } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';

const ROOT = join(import.meta.dirname, '..');

let dir: string;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'l4lab-closing-'));
});
afterEach(() => rmSync(dir, { recursive: true }));

/** Runs one test file; its status and closing line. */
async function lineOf(source: string): Promise<[unknown, string | undefined]> {
  writeFileSync(join(dir, 'a.test.js'), source);
  const reporter = join(ROOT, 'test/closing_line.ts');
  const args = ['run', '--root', dir, '--globals', '--reporter', 'default', '--reporter', reporter];
  return new Promise((resolve) => {
    execFile(join(ROOT, 'node_modules/.bin/vitest'), args, (err, stdout) =>
      resolve([err?.code ?? 0, stdout.trimEnd().split('\n').at(-1)]),
    );
  });
}

it.each([
  [
    'counts what passed, failed and was skipped',
    'it("a", () => {}); it("b", () => { throw new Error("b"); }); it.skip("c", () => {});',
    [1, 'Tests: 1 passed, 1 failed, 1 skipped'],
  ],
  [
    'counts tests as failed whose beforeAll fails',
    'it("a", () => {}); describe("s", () => { beforeAll(() => { throw new Error("x"); }); it("b", () => {}); it("c", () => {}); it.skip("d", () => {}); });',
    [1, 'Tests: 1 passed, 2 failed, 1 skipped'],
  ],
  [
    'counts a failure of afterAll',
    'describe("s", () => { afterAll(() => { throw new Error("x"); }); it("b", () => {}); });',
    [1, 'Tests: 1 passed, 1 failed, 0 skipped'],
  ],
  [
    'counts a hook of the file',
    'beforeAll(() => { throw new Error("x"); }); it("a", () => {});',
    [1, 'Tests: 0 passed, 1 failed, 0 skipped'],
  ],
  [
    'counts a file that does not load',
    'throw new Error("no"); it("a", () => {});',
    [1, 'Tests: 0 passed, 1 failed, 0 skipped'],
  ],
  [
    'counts an error that no test caught',
    'it("a", () => { setTimeout(() => { throw new Error("late"); }, 0); return new Promise((r) => setTimeout(r, 50)); });',
    [1, 'Tests: 1 passed, 1 failed, 0 skipped'],
  ],
])('%s', async (_, source, expected) => {
  expect(await lineOf(source)).toEqual(expected);
});
