// The Node.js tests by folder, and what the tests of each folder need.
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { availableParallelism, tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { pipeline } from 'node:stream/promises'
import { run as runTests } from 'node:test'
import { spec } from 'node:test/reporters'
import { parseArgs } from 'node:util'
import { installPostgres } from './debian.mjs'
import { local, root, run } from './steps.mjs'

/**
 * @typedef {object} Needs of the tests of a folder, in addition to a built addon
 * @property {true} [linux] /proc, signals, strace, mounts, namespaces, terminals, several users, or the wait queue
 * @property {true} [server] PostgreSQL and PgBouncer
 * @property {true} [development] the Node.js version and the packages of the development
 * @property {true} [long] minutes: `npm run test:all` runs them, `npm test` does not
 */

/** @type {Record<string, Needs>} */
export const folders = {
  api: {},
  bundling: { linux: true, development: true, long: true },
  panic: { long: true },
  waiting: {},
  linux: { linux: true },
  cli: { linux: true },
  postgres: { linux: true, server: true },
  package: { development: true },
  release: { development: true, long: true },
  soak: { linux: true, long: true },
  stress: { linux: true, server: true, development: true, long: true },
  tools: { development: true, long: true },
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
  if (unknown !== undefined) throw new Error(`tools/suite.mjs does not say what __test__/${unknown}/ needs`)
  return found.filter((folder) => isWanted(folders[folder])).flatMap((folder) => namesIn(compiled, folder))
}

function namesIn(compiled, folder) {
  const ending = '.test.mjs'
  const files = readdirSync(`${compiled}/${folder}`).filter((name) => name.endsWith(ending))
  return files.map((name) => `${folder}/${name.slice(0, -ending.length)}`)
}

/** @param {string} name */
export const compiledTest = (name) => `build/__test__/${name}.test.mjs`

/** The tests of the addon for another system than the development machine. */
export const testsFor = (/** @type {NodeJS.Platform} */ system) =>
  testNames(({ linux, server, development }) => !server && !development && (system === 'linux' || !linux))

/** The tests of the package for another runtime, including PostgreSQL locks if a server is installed. */
export function testsForRuntimes({ long: withLong, folders: wanted }) {
  const why = installPostgres()
  if (why !== undefined) console.log(`SKIPPED, as ${why}: the tests of locks on PostgreSQL`)
  const isWanted = (/** @type {Needs} */ { server, development, long }) =>
    !development && (why === undefined || !server) && (withLong || !long)
  const isOf = (/** @type {string} */ name) => wanted?.includes(name.split('/')[0]) ?? true
  return testNames(isWanted).filter(isOf)
}

/** Compiles the tests. */
export function compile() {
  // A renamed test must not run under its old name too.
  rmSync(`${root}build`, { recursive: true, force: true })
  run(process.execPath, [`${root}node_modules/typescript/bin/tsc`, '-p', 'tsconfig.json'])
}

/** The tests that can run on this machine; prints why the others cannot. */
function testsHere(long) {
  const isLinux = process.platform === 'linux'
  const withoutServer = installPostgres()
  const withoutLinux = isLinux ? undefined : `${process.platform} is not Linux`
  const isLeftOut = (/** @type {Needs} */ { linux, server }) =>
    (linux && withoutLinux) || (server && withoutServer)
  const inPart = (/** @type {Needs} */ needs) => (needs.long ?? false) === long
  for (const [folder, needs] of Object.entries(folders))
    if (inPart(needs) && isLeftOut(needs)) console.log(`SKIPPED, as ${isLeftOut(needs)}: __test__/${folder}/`)
  return testNames((needs) => inPart(needs) && !isLeftOut(needs))
}

/** Runs several test files at once, because tests mostly wait. */
async function suite(/** @type {string[]} */ names) {
  const log = join(mkdtempSync(join(tmpdir(), 'reconcile-lock-sleeps-')), 'log')
  process.on('exit', () => rmSync(dirname(log), { recursive: true, force: true }))
  process.env.RECONCILE_TEST_SLEEPS = log
  for (const name of Object.keys(local)) delete process.env[name]
  const files = names.map((name) => join(root, compiledTest(name)))
  // The timeout reports a test that hangs by its name; otherwise the gate would hang.
  const stream = runTests({ files, concurrency: 2 * availableParallelism(), timeout: 600_000 })
  stream.on('test:fail', ({ todo }) => {
    if (todo === undefined || todo === false) process.exitCode = 1
  })
  await pipeline(stream, new spec(), process.stdout, { end: false })
  console.log(sleeps(existsSync(log) ? readFileSync(log, 'utf8') : ''))
}

/** How long the tests have slept, by reason. */
function sleeps(/** @type {string} */ log) {
  const all = new Map()
  for (const line of log.split('\n').filter(Boolean)) {
    const { milliseconds, why } = JSON.parse(line)
    const { times, sum } = all.get(why) ?? { times: 0, sum: 0 }
    all.set(why, { times: times + 1, sum: sum + milliseconds })
  }
  const sorted = [...all].toSorted(([, a], [, b]) => b.sum - a.sum)
  const lines = sorted.map(([why, { times, sum }]) => `${sum.toFixed(0).padStart(9)} ms ${times} x: ${why}`)
  const total = sorted.reduce((total, [, { sum }]) => total + sum, 0)
  return ['', ...lines, `the tests have slept ${(total / 1000).toFixed(1)} s, as listed`].join('\n')
}

const help = `npm run test:suite -- [--long] [FOLDER/NAME ...]

Compiles the tests and runs them, or those that are named, such as cli/signals. --long runs those of npm run test:all.`

if (process.argv[1] === import.meta.filename) {
  const options = {
    compile: { type: 'boolean' },
    run: { type: 'boolean' },
    long: { type: 'boolean' },
    help: { type: 'boolean' },
  }
  const { values, positionals } = parseArgs({ options, allowPositionals: true })
  if (values.help) console.log(help)
  else {
    if (!values.run) compile()
    const unknown = positionals.find((name) => !testNames().includes(name))
    if (unknown !== undefined) throw new Error(`there is no test ${unknown}`)
    if (!values.compile) await suite(positionals.length > 0 ? positionals : testsHere(values.long ?? false))
  }
}
