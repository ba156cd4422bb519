/**
 * Where the fields of lwIP's structs lie in Debian's liblwip0 2.1.3 for 64-bit Linux.
 *
 * Byte offsets, as a C compiler gives them for the headers in liblwip-dev. The library exports no version,
 * so nothing here is taken on trust: `self_test.ts` compares them with the living library at start.
 */

/** struct pbuf (pbuf.h) and, behind it, struct pbuf_custom. */
export const PBUF = {
  NEXT: 0,
  PAYLOAD: 8,
  TOT_LEN: 16,
  LEN: 18,
  TYPE: 20,
  FLAGS: 21,
  REF: 22,
  IF_IDX: 23,
  SIZE: 24,
  CUSTOM_FREE: 24,
  CUSTOM_SIZE: 32,
} as const;

/** pbuf_type values (pbuf.h): how the memory was obtained. */
export const PBUF_TYPE = { RAM: 0x280, REF: 0x41 } as const;
/** pbuf_layer: room kept in front of the payload. */
export const PBUF_LAYER = { RAW: 0, TRANSPORT: 74 } as const;
export const PBUF_FLAG_IS_CUSTOM = 0x02;

/** struct netif (netif.h). */
export const NETIF = {
  IP: 8,
  NETMASK: 32,
  GATEWAY: 56,
  IP6: 80,
  IP6_STATE: 224,
  INPUT: 280,
  OUTPUT: 288,
  LINKOUTPUT: 296,
  OUTPUT_IP6: 304,
  MTU: 336,
  MTU6: 338,
  HWADDR: 340,
  HWADDR_LEN: 346,
  FLAGS: 347,
  NAME: 348,
  NUM: 350,
  SIZE: 400,
} as const;

export const NETIF_FLAG = {
  UP: 0x01,
  BROADCAST: 0x02,
  LINK_UP: 0x04,
  ETHARP: 0x08,
  ETHERNET: 0x10,
  MLD6: 0x40,
} as const;
/** LWIP_IPV6_NUM_ADDRESSES of this build. */
export const NETIF_IP6_COUNT = 6;
/** ip6_addr_state: bit 4 set means the address may be used. */
export const IP6_ADDR_VALID = 0x10;

/** ip_addr_t (ip_addr.h): 16 bytes of address in network order, the IPv6 zone, the type. */
export const IP_ADDR = { ZONE: 16, TYPE: 20, SIZE: 24 } as const;
export const IPADDR_TYPE = { V4: 0, V6: 6, ANY: 46 } as const;

/** struct tcp_pcb (tcp.h). */
export const TCP_PCB = {
  LOCAL_IP: 0,
  REMOTE_IP: 24,
  SO_OPTIONS: 49,
  NEXT: 56,
  CALLBACK_ARG: 64,
  STATE: 72,
  LOCAL_PORT: 78,
  REMOTE_PORT: 80,
  FLAGS: 82,
  RCV_NXT: 92,
  RCV_WND: 96,
  MSS: 110,
  RTO: 124,
  SND_BUF: 168,
  SND_QUEUELEN: 172,
  UNSENT: 184,
  UNACKED: 192,
  KEEP_IDLE: 264,
  KEEP_INTVL: 268,
  KEEP_CNT: 272,
  PERSIST_BACKOFF: 277,
  SIZE: 288,
} as const;

/** tcp_pcb.flags. */
export const TF = { ACK_DELAY: 0x01, ACK_NOW: 0x02, NODELAY: 0x40 } as const;
export const TCP_STATE = { CLOSED: 0, SYN_SENT: 2, SYN_RCVD: 3, ESTABLISHED: 4 } as const;
export const SOF_REUSEADDR = 0x04;
export const SOF_KEEPALIVE = 0x08;
/** TCP_WND and TCP_SND_BUF of this build: window scaling is on but the window stays at 64 KiB. */
export const TCP_WND = 65535;
export const TCP_WRITE_FLAG_COPY = 1;
export const TCP_WRITE_FLAG_MORE = 2;

/** struct udp_pcb (udp.h). */
export const UDP_PCB = { LOCAL_PORT: 66, SIZE: 104 } as const;
