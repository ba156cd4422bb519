/** /etc/hosts: `address name alias...`, `#` begins a comment. */
import { isIP } from 'node:net';
import { canonicalName } from '#common/wire/dns_name';

/** Addresses of `name` in the file's text, in its order; case does not count. */
export function hostsAddresses(text: string, name: string): string[] {
  const wanted = canonicalName(name);
  const found: string[] = [];
  for (const line of text.split('\n')) {
    const [address = '', ...names] = line.replace(/#.*/, '').trim().split(/\s+/);
    if (isIP(address) !== 0 && names.some((each) => canonicalName(each) === wanted)) found.push(address);
  }
  return found;
}
