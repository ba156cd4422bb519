/**
 * The text of a compose file for the components of one ned script.
 *
 * It is read by docker compose v2 and by docker-compose 1.29; words that only one of them knows are not used.
 * The shared memory is that of the container `shm` (`ipc`), not a volume: it goes with the containers, so that
 * `down` leaves nothing.
 */
import type { RestartPolicy } from '#common/task/restart';
import { type Component, commandLine, type LabComponents } from './components.ts';

/** Servers are started again whenever they end, others run to their end once, if nothing else is said. */
export interface ComposeLab extends LabComponents {
  /** The command line that makes the same file again; for the head comment. */
  readonly command: string;
  /** Of ned's container: `broker`, its options, the script and its arguments. */
  readonly broker: readonly string[];
  /** Ports of this host that lead to the machine. */
  readonly ports: readonly string[];
  /** Directories of this machine that ned reads: mount point by path. */
  readonly mounts: readonly string[];
  /** The image is built of the directory that the file is in. */
  readonly builds: boolean;
  /** A web server beside the lab that answers to this name; undefined: none. */
  readonly web: string | undefined;
  /** Path in the image of a script for a lab behind a TAP interface; undefined: none. */
  readonly tap: string | undefined;
}

/** Services of the file that are no tasks; no task may have these names. */
export const OTHER_SERVICES = ['ned', 'shm', 'web', 'tap'] as const;

const HEAD = `
x-confined: &confined
  image: \${L4LAB_IMAGE:-l4lab}
  user: "10001:10001"
  read_only: true
  cap_drop: [ALL]
  security_opt: ["no-new-privileges:true"]
  pids_limit: 128
  stop_grace_period: 5s
  tmpfs: ["/run/l4lab:size=64k,mode=1777"]
  environment:
    L4LAB_HEALTH_FILE: /run/l4lab/health
    L4LAB_RUN_BASE: /dev/shm/l4lab
    L4LAB_KEEPER: /dev/shm/keeper

x-component: &component
  <<: *confined
  ipc: "service:shm"
  network_mode: none

# Asked every second until it is ready; from then on an answer takes half a minute (deploy/docker/health.sh). What
# heals by itself, as when another container is started again, is not unhealthy: compose would refuse to wait for it.
x-health: &health
  test: ["CMD", "l4lab-health"]
  interval: 1s
  timeout: 60s
  retries: 20
  start_period: 120s
`;

/** Keeps the shared memory of all components: rings, packets, doorbells, sockets, the log. */
const SHM = service('shm', 'confined', [
  'entrypoint: ["l4lab-keep"]',
  'ipc: shareable',
  `shm_size: \${L4LAB_SHM_SIZE:-512m}`,
  'network_mode: none',
  'restart: unless-stopped',
]);

/** The whole file. Names become services as they are; who has to reach beyond the lab has a network, nobody else. */
export function composeFile(lab: ComposeLab): string {
  const servers = lab.components.filter(({ serves }) => serves).map(({ name }) => name);
  // A script that waits for its servers cannot be waited for by them.
  const ned = { ned: lab.waits ? 'service_started' : 'service_healthy' };
  const ready = Object.fromEntries(servers.map((name) => [name, 'service_healthy']));
  const services = [
    SHM,
    nedService(lab),
    ...lab.components.map((component) =>
      componentService(component, portsOf(component, lab), component.serves ? ned : ready),
    ),
    ...(lab.web === undefined ? [] : [webService(lab.web)]),
    ...(lab.tap === undefined ? [] : [tapService(lab.tap)]),
  ];
  return `# Made by: ${lab.command}\n${HEAD}\nservices:\n${services.join('\n')}`;
}

/** Ports of this host that lead to a component; undefined: it needs no network. */
function portsOf({ name, udpPorts }: Component, { ports }: ComposeLab): readonly string[] | undefined {
  if (name === 'machine') return ports;
  return udpPorts?.map((port) => `${port}:${port}/udp`);
}

function nedService({ broker, mounts, builds }: ComposeLab): string {
  return service('ned', 'component', [
    ...(builds ? ['build: {context: ., dockerfile: deploy/docker/Dockerfile}'] : []),
    `command: ${list(broker)}`,
    ...(mounts.length > 0 ? [`volumes: ${list(mounts)}`] : []),
    'restart: unless-stopped',
    'healthcheck: *health',
    'depends_on:',
    '  shm: {condition: service_started}',
  ]);
}

/** Restart policies by compose's names. */
const RESTART: Readonly<Record<RestartPolicy, string>> = {
  no: '"no"',
  'on-failure': 'on-failure',
  always: 'unless-stopped',
};

function componentService(
  { name, serves, restart }: Component,
  ports: readonly string[] | undefined,
  after: Readonly<Record<string, string>>,
): string {
  // `networks` and `network_mode` exclude each other.
  const wired = ports !== undefined;
  return service(name, wired ? 'confined' : 'component', [
    `command: ${list(['component', name])}`,
    ...(wired ? ['ipc: "service:shm"', 'networks: [default]'] : []),
    ...(wired && ports.length > 0 ? [`ports: ${list(ports)}`, UNPRIVILEGED] : []),
    `restart: ${RESTART[restart ?? (serves ? 'always' : 'no')]}`,
    ...(serves ? ['healthcheck: *health'] : []),
    'depends_on:',
    ...Object.entries(after).map(([other, condition]) => `  ${key(other)}: {condition: ${condition}}`),
  ]);
}

/** Ports below 1024 without a capability, also on engines that do not set it themselves. */
const UNPRIVILEGED = 'sysctls: {net.ipv4.ip_unprivileged_port_start: 0}';

/** Nobody waits for it: without the profile the same name leads to the real server. */
function webService(alias: string): string {
  return service('web', 'confined', [
    'profiles: [demo]',
    'entrypoint: ["node", "dist/services/web/main.js"]',
    'command: ["80", "0.0.0.0"]',
    UNPRIVILEGED,
    'networks:',
    `  default: {aliases: ${list([alias])}}`,
    'restart: unless-stopped',
    'healthcheck: *health',
  ]);
}

/** A lab of its own in one container, whose NIC's cable is a TAP interface there; the web server is on its other end. */
function tapService(script: string): string {
  const nic = ['--nic', 'e1000,wire=tap:lab0,address=10.0.2.2/24'];
  const lab = commandLine(['l4lab', 'run', ...nic, '--wait-for', 'curl', script]);
  const told = '/run/l4lab/web';
  const web = `L4LAB_HEALTH_FILE=${told} node dist/services/web/main.js 80 0.0.0.0`;
  return service('tap', 'confined', [
    'profiles: [tap]',
    // Only root can have a capability and no_new_privileges at once.
    'user: "0:0"',
    'cap_add: [NET_ADMIN]',
    'devices: ["/dev/net/tun"]',
    'network_mode: none',
    UNPRIVILEGED,
    'environment: {L4LAB_RUN_BASE: /dev/shm/l4lab}',
    `entrypoint: ${list(['sh', '-c'])}`,
    `command: ${list([`${web} & until [ -s ${told} ]; do kill -0 $! || exit 1; sleep 0.1; done; exec ${lab}`])}`,
    'restart: "no"',
  ]);
}

function service(name: string, base: 'component' | 'confined', lines: readonly string[]): string {
  return `  ${key(name)}:\n${[`<<: *${base}`, ...lines].map((line) => `    ${line}\n`).join('')}`;
}

/** A name as a key. `on`, `null` and `17` are none to a reader of YAML unless they are quoted. */
function key(name: string): string {
  return /^[a-z_][\w.-]*$/i.test(name) && !/^(y|n|yes|no|on|off|true|false|null)$/i.test(name)
    ? name
    : JSON.stringify(name);
}

/** A flow list. Compose replaces variables: what is meant literally has two dollar signs. */
function list(words: readonly string[]): string {
  return `[${words.map((word) => JSON.stringify(word).replaceAll('$', '$$$$')).join(', ')}]`;
}
