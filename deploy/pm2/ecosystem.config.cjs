// Made by: l4lab pm2 --web ftp.de.debian.org -o deploy/pm2/ecosystem.config.cjs deploy/labs/compose/compose.cfg
// One app for each component; pm2 start, ls, logs, reload, scale, stop and delete take their names.
const { createHash } = require('node:crypto');
const { existsSync } = require('node:fs');
const { homedir } = require('node:os');
const { join } = require('node:path');

const root = join(__dirname, '../..');
if (!existsSync(join(root, 'dist/services/cli/main.js'))) {
  throw new Error(`Cannot start the lab as l4lab is not built: npm run build in ${root}`);
}

// One lab for each user, pm2 daemon and file: nobody meets another one's components.
const daemon = process.env.PM2_HOME || join(homedir(), '.pm2');
const id = createHash('sha256').update(`${process.getuid()} ${daemon} ${__filename}`).digest();
const runBase = process.env.L4LAB_RUN_BASE || `/dev/shm/l4lab-${process.getuid()}`;
const runDir = process.env.L4LAB_BROKER_DIR || join(runBase, `pm2-${id.toString('hex', 0, 4)}`);
// The web server has a loopback address of its own, so that any number of labs have one.
const web = `127.${id[4]}.${id[5]}.${1 + (id[6] % 254)}:8080`;

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
const onFailure = { ...common, autorestart: true, stop_exit_codes: [0] };
const always = { ...common, autorestart: true, exp_backoff_restart_delay: 500 };

module.exports = {
  apps: [
    { ...always, name: 'machine', args: ['component', 'machine'] },
    { ...always, name: 'io', args: ['component', 'io'] },
    { ...always, name: 'l4vio_switch', args: ['component', 'l4vio_switch'] },
    { ...always, name: 'ixl', args: ['component', 'ixl'] },
    { ...onFailure, name: 'curl', args: ['component', 'curl'] },
    {
      ...always,
      name: 'web',
      script: process.execPath,
      args: [join(root, 'dist/services/web/main.js'), web.split(':')[1], web.split(':')[0]],
    },
    // Last: pm2 stops apps in this order, and components end sooner while ned is there.
    {
      ...always,
      name: 'ned',
      args: [
        'broker',
        '--host',
        'ftp.de.debian.org=10.0.2.100',
        '--guest-forward',
        `10.0.2.100:80=${web}`,
        'deploy/labs/compose/compose.cfg',
      ],
    },
  ],
};
