/**
 * The stub resolver: /etc/hosts, then the name servers of /etc/resolv.conf (that is `resolv.conf` in the capability `etc`).
 *
 * As on L4Re, name servers that DHCP gave are not used while there is a resolv.conf; without one they are, and the
 * console says so. Each way to fail has a sentence of its own with the servers that were tried.
 */
import type { LookupAddress, LookupOptions } from 'node:dns';
import { isIP, type LookupFunction } from 'node:net';
import { get32 } from '#common/wire/bytes';
import { DNS_FLAG, DNS_RCODE, DNS_TYPE, type DnsMessage, rcodeOf } from '#common/wire/dns';
import { canonicalName, encodeName } from '#common/wire/dns_name';
import { formatIpv4 } from '#common/wire/ipv4';
import { formatIpv6 } from '../address.ts';
import { NetError, type NetErrorCode } from '../errors.ts';
import type { Exchange } from './exchange.ts';
import { hostsAddresses } from './hosts.ts';
import { parseResolvConf, type ResolvConf } from './resolv_conf.ts';

export interface ResolverOptions {
  /** The text of /etc/<name>; undefined when there is none. */
  readonly readEtc: (name: 'resolv.conf' | 'hosts') => Promise<string | undefined>;
  /** Name servers that DHCP gave. */
  readonly dhcpServers: () => readonly string[];
  readonly exchange: Exchange;
  /** A line for the console. */
  readonly log: (line: string) => void;
}

export interface ResolvedAddress {
  readonly address: string;
  readonly family: 4 | 6;
}

const ETC_HINT =
  'give the program the capability `etc` with a file resolv.conf in it, e.g. etc = L4.Env.rom and "nameserver 10.0.2.3" in rom/resolv.conf';
/** CNAMEs followed within one answer. */
const MAX_ALIASES = 16;
/** IPv4 addresses do not wait longer than this for the answer about IPv6. */
const OTHER_FAMILY_MS = 300;

/** Why one question has no answer. */
interface Failure {
  readonly code: NetErrorCode;
  readonly reason: string;
  /** NXDOMAIN or no data: the next name of the search list may do better. */
  readonly absent: boolean;
}

export class Resolver {
  readonly #options: ResolverOptions;
  #noted = false;
  readonly #warned = new Set<string>();

  constructor(options: ResolverOptions) {
    this.#options = options;
  }

  /** `lookup` option of `net.connect`, `http.request` and our sockets. */
  readonly lookup: LookupFunction = (hostname, options, callback) => {
    this.resolve(hostname, familyOf(options)).then(
      (found) => {
        const first = found[0];
        if (options.all || first === undefined) callback(null, found as LookupAddress[]);
        else callback(null, first.address, first.family);
      },
      (err: NodeJS.ErrnoException) => callback(err, []),
    );
  };

  /** All addresses of a name, IPv4 first. Rejects with NetError: ENOTFOUND, EAI_AGAIN, EINVAL. */
  async resolve(name: string, family: 0 | 4 | 6 = 0): Promise<ResolvedAddress[]> {
    const literal = isIP(name);
    if (literal !== 0) return [{ address: name, family: literal as 4 | 6 }];
    const fixed = await this.#fromHosts(name, family);
    if (fixed.length > 0) return fixed;
    checkName(name);
    const conf = await this.#configuration(name);
    let failure: Failure | undefined;
    for (const candidate of candidates(name, conf)) {
      const result = await this.#query(conf, candidate, family);
      if (Array.isArray(result)) return result;
      failure ??= result;
      if (!result.absent) {
        failure = result;
        break;
      }
    }
    throw failed(name, failure?.code ?? 'ENOTFOUND', failure?.reason ?? 'it is empty');
  }

  async #fromHosts(name: string, family: 0 | 4 | 6): Promise<ResolvedAddress[]> {
    const text = await this.#options.readEtc('hosts');
    if (text === undefined) return [];
    const all = hostsAddresses(text, name).map((address) => ({ address, family: isIP(address) as 4 | 6 }));
    return all.filter((found) => family === 0 || found.family === family).sort((a, b) => a.family - b.family);
  }

  async #configuration(name: string): Promise<ResolvConf> {
    const text = await this.#options.readEtc('resolv.conf');
    const conf = parseResolvConf(text ?? '');
    for (const warning of conf.warnings) this.#warn(warning);
    if (conf.servers.length > 0) return conf;
    const servers = this.#options.dhcpServers();
    const missing =
      text === undefined ? 'there is no /etc/resolv.conf' : '/etc/resolv.conf names no name server';
    if (servers.length === 0) {
      throw failed(name, 'EAI_AGAIN', `${missing} and DHCP gave no name server: ${ETC_HINT}`);
    }
    if (!this.#noted) {
      this.#noted = true;
      this.#options.log(`Note: ${missing}; using the name servers from DHCP: ${servers.join(', ')}`);
    }
    return { ...conf, servers };
  }

  #warn(warning: string): void {
    if (this.#warned.has(warning)) return;
    this.#warned.add(warning);
    this.#options.log(`Warning: ${warning}`);
  }

  /** Both families in parallel, unless one is asked for. */
  async #query(conf: ResolvConf, name: string, family: 0 | 4 | 6): Promise<ResolvedAddress[] | Failure> {
    if (family !== 0) return this.#ask(conf, name, family);
    const second = this.#ask(conf, name, 6);
    const v4 = await this.#ask(conf, name, 4);
    if (!Array.isArray(v4)) {
      const v6 = await second;
      return Array.isArray(v6) ? v6 : v4.absent ? (v6.absent ? v4 : v6) : v4;
    }
    const v6 = await Promise.race([second, delay(OTHER_FAMILY_MS)]);
    return Array.isArray(v6) ? [...v4, ...v6] : v4;
  }

  /** One question: every server in turn, as many rounds as `attempts` says. */
  async #ask(conf: ResolvConf, name: string, family: 4 | 6): Promise<ResolvedAddress[] | Failure> {
    const type = family === 4 ? DNS_TYPE.A : DNS_TYPE.AAAA;
    let refused: Failure | undefined;
    for (let attempt = 0; attempt < conf.attempts; attempt++) {
      for (const server of conf.servers) {
        let answer: DnsMessage | undefined;
        try {
          answer = await this.#options.exchange(server, name, type, conf.timeoutMs);
        } catch (err) {
          const why = err instanceof Error ? err.message : String(err);
          refused = {
            code: 'EAI_AGAIN',
            reason: `name server ${server} cannot be asked: ${why}`,
            absent: false,
          };
          continue;
        }
        if (answer === undefined) continue;
        const result = judge(answer, server, name, family);
        if (Array.isArray(result) || result.absent) return result;
        refused = result;
      }
      // A server that answers with an error will not change its mind in this round.
      if (refused !== undefined) return refused;
    }
    return { code: 'EAI_AGAIN', reason: silent(conf), absent: false };
  }
}

function silent({ servers, attempts, timeoutMs }: ResolvConf): string {
  const who =
    servers.length === 1
      ? `name server ${servers[0]} did not answer`
      : `no name server answered (${servers.join(', ')})`;
  const times = attempts === 1 ? 'once' : `${attempts} times`;
  return `${who}: asked ${times}, ${timeoutMs / 1000} s each. Is the address in /etc/resolv.conf right?`;
}

/** Addresses of an answer, or why it has none. */
function judge(answer: DnsMessage, server: string, name: string, family: 4 | 6): ResolvedAddress[] | Failure {
  const rcode = rcodeOf(answer.flags);
  if (rcode === DNS_RCODE.NXDOMAIN) {
    return { code: 'ENOTFOUND', reason: `the name does not exist (NXDOMAIN from ${server})`, absent: true };
  }
  if (rcode !== DNS_RCODE.NOERROR) {
    const text =
      Object.entries(DNS_RCODE).find(([, code]) => code === rcode)?.[0] ?? `response code ${rcode}`;
    return { code: 'EAI_AGAIN', reason: `name server ${server} failed to answer (${text})`, absent: false };
  }
  const addresses = addressesIn(answer, name, family);
  if (addresses.length > 0) return addresses;
  if (answer.flags & DNS_FLAG.TC) {
    return {
      code: 'EAI_AGAIN',
      reason: `name server ${server} cut its answer and did not give the rest over TCP`,
      absent: false,
    };
  }
  return {
    code: 'ENOTFOUND',
    reason: `the name has no IPv${family} address (according to ${server})`,
    absent: true,
  };
}

/** Follows CNAMEs inside the answer, from the name that was asked for: other records are not believed. */
function addressesIn(answer: DnsMessage, name: string, family: 4 | 6): ResolvedAddress[] {
  const [type, length] = family === 4 ? [DNS_TYPE.A, 4] : [DNS_TYPE.AAAA, 16];
  let owner = canonicalName(name);
  for (let n = 0; n < MAX_ALIASES; n++) {
    const own = answer.answers.filter((record) => canonicalName(record.name) === owner);
    const found = own.filter((record) => record.type === type && record.data.length === length);
    if (found.length > 0) {
      return found.map(({ data }) => ({
        address: family === 4 ? formatIpv4(get32(data, 0)) : formatIpv6(data),
        family,
      }));
    }
    const alias = own.find((record) => record.type === DNS_TYPE.CNAME)?.target;
    if (alias === undefined) return [];
    owner = canonicalName(alias);
  }
  return [];
}

/** Names to try: as it is when it has enough dots, the search list, as it is otherwise. */
export function candidates(name: string, conf: Pick<ResolvConf, 'search' | 'ndots'>): string[] {
  if (name.endsWith('.')) return [name.slice(0, -1)];
  const dots = name.split('.').length - 1;
  const searched = conf.search.map((domain) => `${name}.${domain.replace(/\.$/, '')}`);
  return dots >= conf.ndots ? [name, ...searched] : [...searched, name];
}

function checkName(name: string): void {
  try {
    encodeName(name);
  } catch (cause) {
    throw failed(name, 'ENOTFOUND', `it is no host name: ${cause instanceof Error ? cause.message : cause}`);
  }
}

function failed(hostname: string, code: NetErrorCode, reason: string): NetError {
  return new NetError(code, `Cannot resolve "${hostname}" as ${reason}`, {
    syscall: 'getaddrinfo',
    hostname,
  });
}

function familyOf(options: LookupOptions): 0 | 4 | 6 {
  const { family } = options;
  if (family === 4 || family === 'IPv4') return 4;
  return family === 6 || family === 'IPv6' ? 6 : 0;
}

function delay(ms: number): Promise<undefined> {
  return new Promise((resolve) => {
    setTimeout(() => resolve(undefined), ms).unref();
  });
}
