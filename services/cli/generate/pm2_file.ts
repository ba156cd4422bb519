/** The text of an ecosystem file for pm2: CommonJS that pm2 evaluates whenever the file is named. */
import { RESTART_POLICIES, type RestartPolicy } from '#common/task/restart';
import type { Component } from './components.ts';

export interface Ecosystem {
  /** The command line that makes the same file again; for the head comment. */
  readonly command: string;
  /** Where l4lab is, as seen from the file. */
  readonly root: { readonly relative: string } | { readonly absolute: string };
  /** `broker` and its options; what leads to the web server is added in the file. */
  readonly broker: readonly string[];
  /** The script and its arguments. */
  readonly script: readonly string[];
  /** Servers are started again whenever they end, others only after a failure, if nothing else is said. */
  readonly components: readonly Component[];
  /** Address and port by which guests reach a web server beside the lab; undefined: none. */
  readonly webGuest?: string;
}

/** Restart policies by their names in the file, and what each is there. */
const POLICY: Readonly<Record<RestartPolicy, readonly [name: string, fields: string]>> = {
  always: ['always', 'autorestart: true, exp_backoff_restart_delay: 500'],
  'on-failure': ['onFailure', 'autorestart: true, stop_exit_codes: [0]'],
  no: ['never', 'autorestart: false'],
};

/** The whole file. */
export function ecosystemFile(lab: Ecosystem): string {
  const web = lab.webGuest !== undefined;
  return `// Made by: ${lab.command}
${HEAD}
const root = ${rootText(lab.root)};
${LAB}${web ? WEB : ''}${COMMON}${policies(lab)}
module.exports = {
  apps: [
${lab.components.map(app).join('')}${web ? WEB_APP : ''}    // Last: pm2 stops apps in this order, and components end sooner while ned is there.
    {
      ...always,
      name: 'ned',
      args: [
${brokerWords(lab)
  .map((word) => `        ${word},\n`)
  .join('')}      ],
    },
  ],
};
`;
}

function policyOf({ serves, restart }: Component): RestartPolicy {
  return restart ?? (serves ? 'always' : 'on-failure');
}

/** Those that this file needs; ned itself is always there. */
function policies({ components }: Ecosystem): string {
  const used = new Set<RestartPolicy>(['always', ...components.map(policyOf)]);
  return RESTART_POLICIES.filter((policy) => used.has(policy))
    .map((policy) => `const ${POLICY[policy][0]} = { ...common, ${POLICY[policy][1]} };\n`)
    .join('');
}

function app(component: Component): string {
  const { name } = component;
  const [policy] = POLICY[policyOf(component)];
  return `    { ...${policy}, name: ${text(name)}, args: ['component', ${text(name)}] },\n`;
}

function brokerWords({ broker, script, webGuest }: Ecosystem): string[] {
  const forward = webGuest === undefined ? [] : ["'--guest-forward'", `\`${webGuest}=\${web}\``];
  return [...broker.map(text), ...forward, ...script.map(text)];
}

function rootText(root: Ecosystem['root']): string {
  return 'relative' in root ? `join(__dirname, ${text(root.relative)})` : text(root.absolute);
}

/** A string literal. */
function text(value: string): string {
  if (/^[\x20-\x7e]*$/.test(value) && !/['\\]/.test(value)) return `'${value}'`;
  return JSON.stringify(value);
}

const HEAD = `// One app for each component; pm2 start, ls, logs, reload, scale, stop and delete take their names.
const { createHash } = require('node:crypto');
const { existsSync } = require('node:fs');
const { homedir } = require('node:os');
const { join } = require('node:path');
`;

const LAB = `if (!existsSync(join(root, 'dist/services/cli/main.js'))) {
  throw new Error(\`Cannot start the lab as l4lab is not built: npm run build in \${root}\`);
}

// One lab for each user, pm2 daemon and file: nobody meets another one's components.
const daemon = process.env.PM2_HOME || join(homedir(), '.pm2');
const id = createHash('sha256').update(\`\${process.getuid()} \${daemon} \${__filename}\`).digest();
const runBase = process.env.L4LAB_RUN_BASE || \`/dev/shm/l4lab-\${process.getuid()}\`;
const runDir = process.env.L4LAB_BROKER_DIR || join(runBase, \`pm2-\${id.toString('hex', 0, 4)}\`);
`;

const WEB = `// The web server has a loopback address of its own, so that any number of labs have one.
const web = \`127.\${id[4]}.\${id[5]}.\${1 + (id[6] % 254)}:8080\`;
`;

const COMMON = `
const common = {
  cwd: root,
  script: join(root, 'l4lab'),
  // Started as it is: a process of its own, without pm2's wrapper for Node programs.
  interpreter: 'none',
  exec_mode: 'fork',
  env: { L4LAB_BROKER_DIR: runDir },
  // A component ends within 5 s of SIGINT, on a busy machine a little later.
  kill_timeout: 10000,
  vizion: false,
  // Five ends within a minute, each soon after its start, are enough: pm2 shows 'errored'.
  min_uptime: 12000,
  max_restarts: 5,
};
`;

const WEB_APP = `    {
      ...always,
      name: 'web',
      script: process.execPath,
      args: [join(root, 'dist/services/web/main.js'), web.split(':')[1], web.split(':')[0]],
    },
`;
