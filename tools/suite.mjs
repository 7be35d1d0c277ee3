// The Node.js tests by folder, and what the tests of each folder need.
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { availableParallelism, tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { pipeline } from 'node:stream/promises'
import { run as runTests } from 'node:test'
import { spec } from 'node:test/reporters'
import { parseArgs } from 'node:util'
import { installPostgres } from './debian.mjs'
import { build, install, local, root, run } from './steps.mjs'

/**
 * The needs of each folder of tests, beyond a built addon. `linux`: /proc, signals, strace, mounts, namespaces,
 * terminals, several users, or the wait queue. `unix`: npm as a program, or `/` between the parts of a path. `server`:
 * PostgreSQL and PgBouncer. `development`: the Node.js version and the packages of the development. `long`: minutes;
 * `npm run test:all` runs them, `npm test` does not. `published`: a platform with a published package.
 */
export const folders = {
  api: {},
  loading: { published: true },
  bundling: { linux: true, development: true, long: true },
  panic: { long: true },
  waiting: {},
  linux: { linux: true },
  cli: { linux: true },
  postgres: { linux: true, server: true },
  package: { unix: true, development: true },
  release: { development: true, long: true },
  soak: { linux: true, long: true },
  stress: { linux: true, server: true, development: true, long: true },
  tools: { development: true, long: true },
}

const ENDING = '.test.mjs'
export const compiledTest = (name) => `build/__test__/${name}${ENDING}`

/**
 * The compiled tests of the folders that `isWanted` accepts, as `folder/name`. `missing`: why a need is not met here;
 * folders with this need are left out, and the reason is printed.
 */
export function testNames(isWanted = () => true, missing = {}) {
  const compiled = readdirSync(`${root}build/__test__`, { recursive: true })
  const files = compiled.filter((file) => file.endsWith(ENDING))
  const names = files.map((file) => file.slice(0, -ENDING.length).replaceAll('\\', '/'))
  const folderOf = (name) => name.split('/')[0]
  const chosen = [...new Set(names.map(folderOf))].filter((folder) => {
    const needs = folders[folder]
    if (needs === undefined) throw new Error(`tools/suite.mjs does not say what __test__/${folder}/ needs`)
    if (!isWanted(needs, folder)) return false
    const need = Object.keys(needs).find((each) => missing[each])
    if (need) console.log(`SKIPPED, as ${missing[need]}: __test__/${folder}/`)
    return !need
  })
  return names.filter((name) => chosen.includes(folderOf(name)))
}

export function compile() {
  // A renamed test must not run under its old name too.
  rmSync(`${root}build`, { recursive: true, force: true })
  run(process.execPath, [`${root}node_modules/typescript/bin/tsc`, '-p', 'tsconfig.json'])
}

/** Installs, builds and compiles, unless that was done. */
export function prepare(built) {
  if (!built) {
    install()
    build()
  }
  if (!built || !existsSync(`${root}build/__test__`)) compile()
}

/** Runs several test files at once, because tests mostly wait. A failed test, or a file without one, sets the exit code. */
export async function suite(files) {
  const log = join(mkdtempSync(join(tmpdir(), 'reconcile-lock-sleeps-')), 'log')
  process.on('exit', () => rmSync(dirname(log), { recursive: true, force: true }))
  process.env.RECONCILE_TEST_SLEEPS = log
  for (const name of Object.keys(local)) delete process.env[name]
  // The timeout reports a test that hangs by its name; otherwise the gate would hang.
  const stream = runTests({ files, concurrency: 2 * availableParallelism(), timeout: 600_000 })
  stream.on('test:fail', ({ todo }) => {
    if (todo === undefined || todo === false) process.exitCode = 1
  })
  // A file without a test counts as a test of its name that has passed.
  stream.on('test:pass', ({ name, file }) => {
    if (name !== file) return
    console.error(`${file}: it contains no test`)
    process.exitCode = 1
  })
  await pipeline(stream, new spec(), process.stdout, { end: false })
  console.log(sleeps(existsSync(log) ? readFileSync(log, 'utf8') : ''))
}

/** How long the tests have slept, by reason. */
function sleeps(log) {
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
  const flags = ['compile', 'run', 'long', 'help'].map((name) => [name, { type: 'boolean', default: false }])
  const { values, positionals } = parseArgs({ options: Object.fromEntries(flags), allowPositionals: true })
  if (values.help) {
    console.log(help)
    process.exit()
  }
  if (!values.run) compile()
  const unknown = positionals.find((name) => !testNames().includes(name))
  if (unknown !== undefined) throw new Error(`there is no test ${unknown}`)
  if (!values.compile) {
    const linux = process.platform !== 'linux' && `${process.platform} is not Linux`
    const unix = process.platform === 'win32' && 'Windows has npm as a script'
    const inPart = ({ long = false }) => long === values.long
    const chosen =
      positionals.length > 0 ? positionals : testNames(inPart, { linux, unix, server: installPostgres() })
    await suite(chosen.map((name) => join(root, compiledTest(name))))
  }
}
