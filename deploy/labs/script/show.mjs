// A program of one's own: a JavaScript module in rom that exports main(env). It prints what it was given.
//   show.mjs [--read PATH]... [--sleep] [--exit STATUS]
export async function main(env) {
  const [program, ...args] = env.argv;
  console.log(`${program} ${JSON.stringify(args)}`);
  for (const [name, value] of env.environment) console.log(`environment: ${name}=${value}`);
  console.log(`capabilities: ${env.capNames.join(', ')}`);
  for (const [at, word] of args.entries()) if (word === '--read') await read(env, args[at + 1]);
  if (args.includes('--sleep')) await new Promise((resolve) => env.signal.addEventListener('abort', resolve));
  return args.includes('--exit') ? Number(args[args.indexOf('--exit') + 1]) : 0;
}

async function read(env, path) {
  try {
    console.log(`${path}: ${new TextDecoder().decode(await env.files.read(path)).trimEnd()}`);
  } catch (error) {
    console.log(`${path}: error ${error.errno}`);
  }
}
