/** Time as the drivers use it; tests put a fake one in its place. */
export interface Clock {
  /** Monotonic milliseconds. */
  now(): number;
  sleep(ms: number): Promise<void>;
  /** Like `sleep`, but does not keep the process alive. */
  sleepInBackground(ms: number): Promise<void>;
}

export const systemClock: Clock = {
  now: () => performance.now(),
  sleep: (ms) => new Promise((resolve) => setTimeout(resolve, ms)),
  sleepInBackground: (ms) => new Promise((resolve) => setTimeout(resolve, ms).unref()),
};
