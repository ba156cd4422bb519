/** curl's progress meter on stderr, once a second and at the end. */
import type { TransferInfo } from './transfer.ts';

const HEAD =
  '  % Total    % Received % Xferd  Average Speed   Time    Time     Time  Current\n' +
  '                                 Dload  Upload   Total   Spent    Left  Speed\n';

/** Five characters: 12345, 1234k, 12.3M ... */
export function fiveDigits(bytes: number): string {
  const units = ['k', 'M', 'G', 'T', 'P'];
  if (bytes < 100_000) return String(Math.round(bytes)).padStart(5);
  let value = bytes / 1024;
  let unit = 0;
  while (value >= 10_000 && unit < units.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return `${value < 100 && unit > 0 ? value.toFixed(1) : Math.round(value)}${units[unit]}`.padStart(5);
}

function clock(seconds: number): string {
  if (!Number.isFinite(seconds) || seconds <= 0) return '--:--:--';
  const s = Math.round(seconds);
  const two = (n: number) => String(n).padStart(2, '0');
  return `${String(Math.floor(s / 3600)).padStart(2)}:${two(Math.floor(s / 60) % 60)}:${two(s % 60)}`;
}

export class Progress {
  readonly #info: TransferInfo;
  readonly #print: (text: string) => void;
  readonly #start = performance.now();
  #timer: NodeJS.Timeout | undefined;
  #last = { at: 0, bytes: 0 };

  constructor(info: TransferInfo, print: (text: string) => void) {
    this.#info = info;
    this.#print = print;
  }

  start(): void {
    this.#print(HEAD);
    this.#timer = setInterval(() => this.#print(`${this.#line()}\r`), 1000);
  }

  stop(): void {
    clearInterval(this.#timer);
    this.#print(`${this.#line()}\n`);
  }

  #line(): string {
    const { downloaded, expected } = this.#info;
    const spent = (performance.now() - this.#start) / 1000;
    const total = expected >= 0 ? expected : downloaded;
    const percent = total > 0 ? String(Math.floor((downloaded * 100) / total)).padStart(3) : '  0';
    const average = spent > 0 ? downloaded / spent : 0;
    const current = (downloaded - this.#last.bytes) / Math.max(spent - this.#last.at, 0.001);
    this.#last = { at: spent, bytes: downloaded };
    const whole = expected > 0 && average > 0 ? expected / average : 0;
    return `${percent} ${fiveDigits(total)} ${percent} ${fiveDigits(downloaded)}    0     0 ${fiveDigits(average).padStart(6)}      0 ${clock(whole)} ${clock(spent)} ${clock(whole - spent)} ${fiveDigits(current)}`;
  }
}
