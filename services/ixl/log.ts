/** Messages of the driver library, in the form of the original: `[INFO ] text`, `[WARN ] text`, `[ERROR] text`. */
export interface Log {
  info(text: string): void;
  warn(text: string): void;
  error(text: string): void;
}

/** Information goes to stdout, the rest to stderr (F5.1). An error does not stop the program. */
export const consoleLog: Log = {
  info: (text) => console.log(`[INFO ] ${text}`),
  warn: (text) => console.error(`[WARN ] ${text}`),
  error: (text) => console.error(`[ERROR] ${text}`),
};
