/** DHCP option values [RFC 2132]: numbers, addresses and texts from and to their bytes. */

import { get16, get32, put16, put32 } from './bytes.ts';
import { DHCP_OPTION, type DhcpMessage } from './dhcp.ts';

const TEXT = new TextDecoder('latin1');

/** The message type (`DHCP_TYPE`), 0 when the message has none (plain BOOTP). */
export function dhcpType(message: DhcpMessage): number {
  return optionU8(message, DHCP_OPTION.MESSAGE_TYPE) ?? 0;
}

/** One byte; undefined when absent or of another length. */
export function optionU8(message: DhcpMessage, code: number): number | undefined {
  const value = message.options.get(code);
  return value?.length === 1 ? value[0] : undefined;
}

/** 16 bits; undefined when absent or of another length. */
export function optionU16(message: DhcpMessage, code: number): number | undefined {
  const value = message.options.get(code);
  return value?.length === 2 ? get16(value, 0) : undefined;
}

/** 32 bits (seconds, or one address); undefined when absent or of another length. */
export function optionU32(message: DhcpMessage, code: number): number | undefined {
  const value = message.options.get(code);
  return value?.length === 4 ? get32(value, 0) : undefined;
}

/** A list of addresses (routers, name servers); empty when absent, a ragged tail is ignored. */
export function optionAddresses(message: DhcpMessage, code: number): number[] {
  const value = message.options.get(code) ?? new Uint8Array();
  const addresses: number[] = [];
  for (let i = 0; i + 4 <= value.length; i += 4) addresses.push(get32(value, i));
  return addresses;
}

/** A text without its trailing NULs (some servers send them); undefined when absent. */
export function optionText(message: DhcpMessage, code: number): string | undefined {
  const value = message.options.get(code);
  return value === undefined ? undefined : TEXT.decode(value).replace(/\0+$/, '');
}

export function u8Option(value: number): Uint8Array {
  return Uint8Array.of(value);
}

export function u16Option(value: number): Uint8Array {
  const bytes = new Uint8Array(2);
  put16(bytes, 0, value);
  return bytes;
}

export function u32Option(value: number): Uint8Array {
  const bytes = new Uint8Array(4);
  put32(bytes, 0, value);
  return bytes;
}

export function addressesOption(addresses: readonly number[]): Uint8Array {
  const bytes = new Uint8Array(4 * addresses.length);
  addresses.forEach((address, i) => {
    put32(bytes, 4 * i, address);
  });
  return bytes;
}

/** Characters above 255 become '?'. */
export function textOption(text: string): Uint8Array {
  return Uint8Array.from(text, (char) => (char.charCodeAt(0) < 256 ? char.charCodeAt(0) : 63));
}
