/** The last line of a test run: how many passed, failed and were skipped. */
import type { Reporter, TestCollection, TestModule } from 'vitest/node';

class Count {
  passed = 0;
  failed = 0;
  skipped = 0;

  /** A test that did not run as the hook of its suite failed is a failure, too. */
  add(children: TestCollection, hookFailed: boolean): void {
    for (const child of children) {
      if (child.type === 'suite') {
        this.#addSuite(child.children, hookFailed || child.errors().length > 0, child.errors().length > 0);
        continue;
      }
      const { state } = child.result();
      const wanted = child.options.mode === 'run' || child.options.mode === undefined;
      if (state === 'pending' || (state === 'skipped' && hookFailed && wanted)) this.failed += 1;
      else this[state] += 1;
    }
  }

  /** What has errors of its own counts at least one failure: a hook, or a file that does not even load. */
  #addSuite(children: TestCollection, hookFailed: boolean, hasErrors: boolean): void {
    const before = this.failed;
    this.add(children, hookFailed);
    if (hasErrors && this.failed === before) this.failed += 1;
  }

  addModule(module: TestModule): void {
    const hasErrors = module.errors().length > 0;
    const before = this.failed;
    this.#addSuite(module.children, hasErrors, hasErrors);
    if (module.state() === 'failed' && this.failed === before) this.failed += 1;
  }
}

export default class ClosingLine implements Reporter {
  onTestRunEnd(modules: readonly TestModule[], unhandled: readonly unknown[]): void {
    const count = new Count();
    for (const module of modules) count.addModule(module);
    count.failed += unhandled.length;
    // Behind the summary of the default reporter, which is printed at the end of this turn.
    process.once('exit', () => {
      process.stdout.write(
        `\nTests: ${count.passed} passed, ${count.failed} failed, ${count.skipped} skipped\n`,
      );
    });
  }
}
