/** The text of a compose file for the components of one ned script. */
import type { RestartPolicy } from '#common/task/restart';
import type { Component } from './components.ts';

export interface ComposeLab {
  /** The command line that makes the same file again; for the head comment. */
  readonly command: string;
  /** Of ned's container: `broker`, its options, the script and its arguments. */
  readonly broker: readonly string[];
  /** Servers are started again whenever they end, others run to their end once, if nothing else is said. */
  readonly components: readonly Component[];
  /** Directories of this machine that ned reads: mount point by path. */
  readonly mounts: readonly string[];
  /** The image is built of the directory that the file is in. */
  readonly builds: boolean;
  /** A web server beside the lab that answers to this name; undefined: none. */
  readonly web?: string;
}

const HEAD = `
x-component: &component
  image: \${L4LAB_IMAGE:-l4lab}
  user: "10001:10001"
  read_only: true
  cap_drop: [ALL]
  security_opt: ["no-new-privileges:true"]
  pids_limit: 128
  stop_grace_period: 5s

x-health: &health
  interval: 3s
  timeout: 10s
  retries: 10
`;

/** A tmpfs, closed to everybody but the user of the image: it vanishes with the last container. */
const TAIL = `
volumes:
  run:
    driver_opts:
      type: tmpfs
      device: tmpfs
      o: size=256m,uid=10001,gid=10001,mode=0700
`;

const WEB_READY = `fetch("http://127.0.0.1/").then(() => process.exit(0), () => process.exit(1))`;

/** The whole file. Names become services as they are; the machine and the web server alone have a network. */
export function composeFile(lab: ComposeLab): string {
  const servers = lab.components.filter(({ serves }) => serves).map(({ name }) => name);
  const ready = lab.web === undefined ? servers : [...servers, 'web'];
  const services = [
    nedService(lab),
    ...lab.components.map((component) => componentService(component, component.serves ? ['ned'] : ready)),
    ...(lab.web === undefined ? [] : [webService(lab.web)]),
  ];
  return `# Made by: ${lab.command}\n${HEAD}\nservices:\n${services.join('\n')}${TAIL}`;
}

function nedService({ broker, mounts, builds }: ComposeLab): string {
  return service('ned', [
    ...(builds ? ['build: {context: ., dockerfile: deploy/docker/Dockerfile}'] : []),
    `command: ${list(broker)}`,
    `volumes: ${list(['run:/run/l4lab', ...mounts])}`,
    'network_mode: none',
    'restart: unless-stopped',
    health(['CMD', 'l4lab', 'health', 'ned']),
  ]);
}

/** Restart policies by compose's names. */
const RESTART: Readonly<Record<RestartPolicy, string>> = {
  no: '"no"',
  'on-failure': 'on-failure',
  always: 'unless-stopped',
};

function componentService({ name, serves, restart }: Component, after: readonly string[]): string {
  return service(name, [
    `command: ${list(['component', name])}`,
    'volumes: ["run:/run/l4lab"]',
    name === 'machine' ? 'networks: [default]' : 'network_mode: none',
    `restart: ${RESTART[restart ?? (serves ? 'always' : 'no')]}`,
    ...(serves ? [health(['CMD', 'l4lab', 'health', name])] : []),
    'depends_on:',
    ...after.map((other) => `  ${other}: {condition: service_healthy}`),
  ]);
}

function webService(alias: string): string {
  return service('web', [
    'entrypoint: ["node", "dist/services/web/main.js"]',
    'command: ["80", "0.0.0.0"]',
    // Port 80 without a capability, also on engines that do not set it themselves.
    'sysctls: {net.ipv4.ip_unprivileged_port_start: 0}',
    'networks:',
    `  default: {aliases: ${list([alias])}}`,
    'restart: unless-stopped',
    health(['CMD', 'node', '-e', WEB_READY]),
  ]);
}

function service(name: string, lines: readonly string[]): string {
  return `  ${name}:\n${['<<: *component', ...lines].map((line) => `    ${line}\n`).join('')}`;
}

function health(test: readonly string[]): string {
  return `healthcheck: {<<: *health, test: ${list(test)}}`;
}

/** A flow list. Compose replaces variables: what is meant literally has two dollar signs. */
function list(words: readonly string[]): string {
  return `[${words.map((word) => JSON.stringify(word).replaceAll('$', '$$$$')).join(', ')}]`;
}
