// The Node tests, for the addon that has been built. All on Linux; elsewhere those that use nothing of Linux, and the
// names of the others.
import { readdirSync, rmSync } from 'node:fs'
import { root, run } from './steps.mjs'

/** They use /proc, signals, strace, mounts, namespaces, terminals or several users. */
const LINUX = [
  'children',
  'cli',
  'cli-faults',
  'cli-signals',
  'cli-terminal',
  'copies',
  'faults',
  'lifetimes',
  'namespaces',
  'package',
  'soak',
  'storm',
  'system-errors',
  'users',
  'waiting-cost',
  'waiting-without-events',
].map((name) => `${name}.test.mjs`)

/** Compiles the tests. */
export function compile() {
  // A test that was renamed must not go on running under its old name.
  rmSync(`${root}build`, { recursive: true, force: true })
  run(process.execPath, [`${root}node_modules/typescript/bin/tsc`, '-p', 'tsconfig.json'])
}

/** Runs them. A test that hangs is a failure with a name, not a gate that is stopped from outside. */
export function suite() {
  const all = readdirSync(`${root}build/__test__`).filter((name) => name.endsWith('.test.mjs'))
  const unknown = LINUX.filter((name) => !all.includes(name))
  if (unknown.length > 0) throw new Error(`there is no test ${unknown.join(', ')}`)
  const left = process.platform === 'linux' ? [] : LINUX
  if (left.length > 0) console.log(`skipped on ${process.platform}, as they need Linux: ${left.join(', ')}`)
  const files = all.filter((name) => !left.includes(name)).map((name) => `build/__test__/${name}`)
  run(process.execPath, ['--test', '--test-reporter=spec', '--test-timeout=600000', ...files])
}

if (process.argv[1] === import.meta.filename) {
  compile()
  suite()
}
