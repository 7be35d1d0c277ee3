// The Node.js tests by folder, and what the tests of each folder need.
import { readdirSync, rmSync } from 'node:fs'
import { installPostgres } from './postgres.mjs'
import { root, run } from './steps.mjs'

/**
 * @typedef {object} Needs of the tests of a folder, beside a built addon
 * @property {true} [linux] /proc, signals, strace, mounts, namespaces, terminals, several users, or the wait queue
 * @property {true} [server] PostgreSQL and PgBouncer
 * @property {true} [development] the Node.js and the packages that this project is developed with
 * @property {true} [long] minutes: `npm run test:all` runs them, `npm test` does not
 */

/** @type {Record<string, Needs>} */
export const folders = {
  api: {},
  waiting: {},
  linux: { linux: true },
  cli: { linux: true },
  postgres: { linux: true, server: true },
  package: { development: true },
  tools: { development: true },
  long: { linux: true, long: true },
}

/** Folders of `__test__/` without tests. */
const SUPPORT = ['legacy', 'support', 'types']

/**
 * The compiled tests of the folders that `isWanted` accepts, as `folder/name`.
 * @param {(needs: Needs) => boolean} [isWanted]
 */
export function testNames(isWanted = () => true) {
  const compiled = `${root}build/__test__`
  const found = readdirSync(compiled).filter((name) => !SUPPORT.includes(name))
  const unknown = found.find((name) => !(name in folders))
  if (unknown !== undefined) throw new Error(`scripts/suite.mjs does not say what __test__/${unknown}/ needs`)
  return found.filter((folder) => isWanted(folders[folder])).flatMap((folder) => namesIn(compiled, folder))
}

function namesIn(compiled, folder) {
  const ending = '.test.mjs'
  const files = readdirSync(`${compiled}/${folder}`).filter((name) => name.endsWith(ending))
  return files.map((name) => `${folder}/${name.slice(0, -ending.length)}`)
}

/** @param {string} name */
export const compiledTest = (name) => `build/__test__/${name}.test.mjs`

/** The tests of the addon for another system than that of the development. */
export const testsFor = (/** @type {NodeJS.Platform} */ system) =>
  testNames(({ linux, server, development }) => !server && !development && (system === 'linux' || !linux))

/** The tests of the package for another runtime, with those of locks on PostgreSQL if there is a server. */
export function testsForRuntimes() {
  const why = installPostgres()
  if (why !== undefined) console.log(`SKIPPED, as ${why}: the tests of locks on PostgreSQL`)
  return testNames(({ server, development }) => !development && (why === undefined || !server))
}

/** Compiles the tests. */
export function compile() {
  // A test that was renamed must not go on running under its old name.
  rmSync(`${root}build`, { recursive: true, force: true })
  run(process.execPath, [`${root}node_modules/typescript/bin/tsc`, '-p', 'tsconfig.json'])
}

/** Runs them. A test that hangs is a failure with a name, not a gate that is stopped from outside. */
export function suite() {
  const isLinux = process.platform === 'linux'
  if (!isLinux) console.log(`skipped on ${process.platform}, as they need Linux: the folders that say so`)
  const why = installPostgres()
  if (why !== undefined) console.log(`SKIPPED, as ${why}: the tests of locks on PostgreSQL`)
  const names = testNames(({ linux, server }) => (isLinux || !linux) && (why === undefined || !server))
  run(process.execPath, [
    '--test',
    '--test-reporter=spec',
    '--test-timeout=600000',
    ...names.map(compiledTest),
  ])
}

if (process.argv[1] === import.meta.filename) {
  compile()
  suite()
}
