/** The last line of a test run: how many passed, failed and were skipped. */
import type { Reporter, TestModule } from 'vitest/node';

export default class ClosingLine implements Reporter {
  onTestRunEnd(modules: readonly TestModule[]): void {
    const count = { passed: 0, failed: 0, skipped: 0 };
    for (const module of modules) {
      let tests = 0;
      for (const test of module.children.allTests()) {
        tests += 1;
        const { state } = test.result();
        if (state !== 'pending') count[state] += 1;
      }
      // A file that does not even load is a failure, too.
      if (tests === 0 && module.state() === 'failed') count.failed += 1;
    }
    // Behind the summary of the default reporter, which is printed at the end of this turn.
    process.once('exit', () => {
      process.stdout.write(
        `\nTests: ${count.passed} passed, ${count.failed} failed, ${count.skipped} skipped\n`,
      );
    });
  }
}
