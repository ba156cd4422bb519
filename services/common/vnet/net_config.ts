/**
 * Device config of a network device as its driver reads it [VIRTIO 1.2 §5.1.4]: mac[6], status u16,
 * max_virtqueue_pairs u16, mtu u16. The first ten bytes are what the original has (F3.7); a port without MTU has no more.
 */
import { NET_CONFIG_SIZE } from '#common/virtio/config_page';

/** Byte offsets. */
export const NET_CONFIG = { MAC: 0, STATUS: 6, MTU: 10 } as const;
/** Bytes of a config with an MTU. */
export const NET_CONFIG_MTU_SIZE = 12;
/** Bit of `status`. */
export const NET_S_LINK_UP = 1;
/** Least MTU that may be offered [VIRTIO 1.2 §5.1.4.1], and the most that fits. */
export const MIN_MTU = 68;
export const MAX_MTU = 65535;

export interface NetConfig {
  readonly mac: Uint8Array | undefined;
  /** Bytes behind the Ethernet header. */
  readonly mtu: number | undefined;
  readonly linkUp: boolean;
}

export function netConfig({ mac, mtu, linkUp }: NetConfig): Uint8Array {
  const config = new Uint8Array(mtu === undefined ? NET_CONFIG_SIZE : NET_CONFIG_MTU_SIZE);
  if (mac) config.set(mac, NET_CONFIG.MAC);
  config[NET_CONFIG.STATUS] = linkUp ? NET_S_LINK_UP : 0;
  if (mtu !== undefined) {
    config[NET_CONFIG.MTU] = mtu & 0xff;
    config[NET_CONFIG.MTU + 1] = mtu >>> 8;
  }
  return config;
}
