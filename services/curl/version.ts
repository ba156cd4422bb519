/** What `curl --version` prints: the version that L4Re's curl reports, and what this one can really do. */

export const VERSION = '8.17.1-DEV';

const ARCH: Record<string, string> = {
  x64: 'x86_64',
  arm64: 'aarch64',
  arm: 'arm',
  ia32: 'i386',
  riscv64: 'riscv',
};

export function versionText(): string {
  const host = `${ARCH[process.arch] ?? process.arch}-l4re`;
  return [
    `curl ${VERSION} (${host}) libcurl/${VERSION} lwIP/2.1.3`,
    'Release-Date: [unreleased]',
    'Protocols: http',
    'Features: IPv6 Largefile',
    '',
  ].join('\n');
}
