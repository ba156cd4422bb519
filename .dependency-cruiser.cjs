// The dependency rules of the code base: services are processes and share only common/ and proto/.
// They are checked on what the build made in dist/ (dependency-cruiser cannot read TypeScript 7's sources),
// so every import that exists at run time counts.
// lwip and ixl are the two libraries a program links, as on L4Re; they may be imported by programs.
const LIBRARIES = '^dist/services/(lwip|ixl)/';
module.exports = {
  forbidden: [
    {
      name: 'services-are-processes',
      comment: 'A service never imports another one: they talk over capabilities and rings.',
      severity: 'error',
      from: { path: '^dist/services/([^/]+)/', pathNot: '^dist/services/common/' },
      to: {
        path: '^dist/services/([^/]+)/',
        pathNot: ['^dist/services/common/', '^dist/services/$1/', LIBRARIES],
      },
    },
    {
      name: 'common-knows-no-service',
      severity: 'error',
      from: { path: '^dist/services/common/' },
      to: { path: '^dist/services/', pathNot: '^dist/services/common/' },
    },
    {
      name: 'data-plane-is-pure',
      comment: 'Rings, registers and frames are plain arithmetic over memory: no Node API.',
      severity: 'error',
      from: { path: '^dist/services/common/(virtio|vnet|nic|wire)/', pathNot: '\\.test\\.js$' },
      to: { dependencyTypes: ['core', 'npm'] },
    },
    {
      name: 'one-importer-of-zeromq',
      severity: 'error',
      from: { pathNot: '^dist/services/common/ipc/' },
      to: { path: 'node_modules/zeromq' },
    },
    {
      name: 'few-importers-of-koffi',
      severity: 'error',
      from: { pathNot: '^dist/services/(common/(shm|udp)|lwip|machine/wires)/' },
      to: { path: 'node_modules/koffi' },
    },
    { name: 'no-circular', severity: 'error', from: {}, to: { circular: true } },
  ],
  options: {
    doNotFollow: { path: 'node_modules' },
    enhancedResolveOptions: {
      conditionNames: ['import', 'default'],
      extensions: ['.js'],
      exportsFields: ['exports'],
    },
  },
};
