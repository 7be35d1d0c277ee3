// The Node tests, for the addon that has been built. All on Linux; elsewhere those that use nothing of Linux, and the
// names of the others.
import { readdirSync, rmSync } from 'node:fs'
import { installPostgres } from './postgres.mjs'
import { root, run } from './steps.mjs'

/** They use /proc, signals, strace, mounts, namespaces, terminals, several users, or the queue of those who wait. */
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
  'waiting-order',
  'waiting-without-events',
]

/** They start PostgreSQL and PgBouncer. */
const needsDatabase = (/** @type {string} */ name) => name.startsWith('postgres') || name === 'contract-both'

/** They test the tools of this project, which run on the Node.js that it is developed with. */
export const TOOLS = [
  'bench',
  'bundlers',
  'check-release',
  'documents',
  'install',
  'migrating',
  'package',
  'runtimes',
  'storm',
]

/** The names of all tests that have been compiled. */
export function testNames() {
  const ending = '.test.mjs'
  const files = readdirSync(`${root}build/__test__`).filter((name) => name.endsWith(ending))
  const names = files.map((name) => name.slice(0, -ending.length))
  const unknown = [...LINUX, ...TOOLS].filter((name) => !names.includes(name))
  if (unknown.length > 0) throw new Error(`there is no test ${unknown.join(', ')}`)
  return names
}

/** The tests of the addon for another system than that of the development. */
export function testsFor(/** @type {NodeJS.Platform} */ system) {
  const names = testNames().filter((name) => !TOOLS.includes(name) && !needsDatabase(name))
  return system === 'linux' ? names : names.filter((name) => !LINUX.includes(name))
}

/** The tests of the package for another runtime, with those of locks on PostgreSQL where there is one. */
export function testsForRuntimes() {
  const why = installPostgres()
  const served = why === undefined ? testNames().filter(needsDatabase) : []
  if (why !== undefined) console.log(`SKIPPED, as ${why}: the tests of locks on PostgreSQL`)
  return [...testsFor('linux'), ...served]
}

/** Compiles the tests. */
export function compile() {
  // A test that was renamed must not go on running under its old name.
  rmSync(`${root}build`, { recursive: true, force: true })
  run(process.execPath, [`${root}node_modules/typescript/bin/tsc`, '-p', 'tsconfig.json'])
}

/** Runs them. A test that hangs is a failure with a name, not a gate that is stopped from outside. */
export function suite() {
  const left = process.platform === 'linux' ? [] : LINUX
  if (left.length > 0) console.log(`skipped on ${process.platform}, as they need Linux: ${left.join(', ')}`)
  const withoutServer = installPostgres()
  const unserved = withoutServer === undefined ? [] : testNames().filter(needsDatabase)
  if (withoutServer !== undefined) console.log(`SKIPPED, as ${withoutServer}: ${unserved.join(', ')}`)
  const names = testNames().filter((name) => !left.includes(name) && !unserved.includes(name))
  const files = names.map((name) => `build/__test__/${name}.test.mjs`)
  run(process.execPath, ['--test', '--test-reporter=spec', '--test-timeout=600000', ...files])
}

if (process.argv[1] === import.meta.filename) {
  compile()
  suite()
}
