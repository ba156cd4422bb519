/** How limits and filters are written: values of factory arguments and of options. Errors are RangeError with the rule. */
import { type RateLimit, STORM_KINDS, type StormKind, type StormLimit } from './limits.ts';

const UNITS: Readonly<Record<string, number>> = { '': 1, k: 1e3, M: 1e6, G: 1e9, T: 1e12 };
const MIN_RATE = 1000;
const MAX_RATE = 1e12;
/** A frame with offload is up to 64 KiB; what is less than one frame of a plain Ethernet is no burst. */
const MIN_BURST = 1514;
const MAX_BURST = 2 ** 31 - 1;
const DEFAULT_BURST = 65_558;
/** Seconds of the rate that may come at once when nothing else is said. */
const DEFAULT_BURST_SECONDS = 0.05;
const MAX_FRAMES = 1e9;
const MAX_ETHER_TYPE = 0xffff;

const ETHER_TYPES: Readonly<Record<string, number>> = {
  ipv4: 0x0800,
  arp: 0x0806,
  ipv6: 0x86dd,
  lldp: 0x88cc,
};

/** `BITS[,BURST]`: bits per second and bytes, each with k, M, G or T for powers of a thousand. */
export function parseRate(text: string): RateLimit {
  const [rate = '', burst, ...rest] = text.split(',');
  const bitsPerSecond = scaled(rate);
  if (rest.length > 0 || !(bitsPerSecond >= MIN_RATE && bitsPerSecond <= MAX_RATE))
    throw new RangeError('It must be BITS[,BURST] with 1k to 1T bits per second, e.g. 10M');
  if (burst === undefined) {
    const bytes = Math.ceil((bitsPerSecond / 8) * DEFAULT_BURST_SECONDS);
    return { bitsPerSecond, burst: Math.max(DEFAULT_BURST, Math.min(bytes, MAX_BURST)) };
  }
  const bytes = scaled(burst);
  if (!(bytes >= MIN_BURST && bytes <= MAX_BURST))
    throw new RangeError(`Its burst must be ${MIN_BURST}..${MAX_BURST} bytes, e.g. 64k`);
  return { bitsPerSecond, burst: bytes };
}

/** `FRAMES` for each kind or `KIND=FRAMES` for one, per second; `before` is what an earlier argument said. */
export function addStorm(before: StormLimit | undefined, text: string): StormLimit {
  const [kind, value] = text.includes('=') ? (text.split('=', 2) as [string, string]) : [undefined, text];
  const frames = /^\d{1,10}$/.test(value) ? Number(value) : Number.NaN;
  if ((kind !== undefined && !isStormKind(kind)) || !(frames <= MAX_FRAMES)) {
    throw new RangeError(
      `It must be FRAMES or KIND=FRAMES per second with a kind of ${STORM_KINDS.join(', ')} and 0..${MAX_FRAMES} frames`,
    );
  }
  const kinds = kind === undefined ? STORM_KINDS : [kind];
  return { ...before, ...Object.fromEntries(kinds.map((name) => [name, frames])) };
}

/** `TYPE[,TYPE...]`: Ethernet types by name or number. */
export function parseFilter(text: string): readonly number[] {
  return text.split(',').map((word) => {
    const type = ETHER_TYPES[word] ?? (/^0x[0-9a-fA-F]{1,4}$/.test(word) ? Number(word) : Number.NaN);
    if (type <= MAX_ETHER_TYPE) return type;
    throw new RangeError(
      `It must be Ethernet types with commas, ${Object.keys(ETHER_TYPES).join(', ')} or a number like 0x0806`,
    );
  });
}

function isStormKind(text: string): text is StormKind {
  return (STORM_KINDS as readonly string[]).includes(text);
}

/** NaN for what is no number. */
function scaled(text: string): number {
  const found = /^(\d{1,12})([kMGT]?)$/.exec(text);
  return found ? Number(found[1]) * (UNITS[found[2] as string] as number) : Number.NaN;
}
