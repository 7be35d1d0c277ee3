// `npm run test:runtimes`: the suite in every runtime. `npm run test:servers`: the tests that depend on the server,
// with every version of PostgreSQL.
import { existsSync } from 'node:fs'
import { readOptions } from './cli.mjs'
import { installPostgres } from './debian.mjs'
import { installRuntime, installServer, newest, runtimes, servers } from './runtimes/install.mjs'
import { runSuite, testArguments } from './runtimes/suite.mjs'
import { build, install, root } from './steps.mjs'
import { compile, testNames } from './suite.mjs'

const ofServers = process.argv.includes('--servers')
const help = ofServers
  ? `npm run test:servers -- [--only VERSION,VERSION] [--no-build]

Installs each version of PostgreSQL from its npm package (Linux x64) and runs with it the tests that depend on the server.

Versions: ${Object.keys(servers).join(', ')}`
  : `npm run test:runtimes -- [--only RUNTIME,RUNTIME] [--file TEST,TEST] [--no-build] [--others] [--newest]

Installs each runtime from its npm package (Linux x64) and runs the suite in it. A test that cannot pass in one is marked
by knownFailure() with the reason; it still runs there, and a marked test that passes is a failure. The long tests run
in the Node.js of the development, in the newest one, in Bun and in Deno. Node.js 22 and 24 leave out linux, which tests
the binary that all of them load; the oldest one runs api and waiting alone.

--others leaves out the Node.js that runs this command. --newest takes the newest version of each runtime, and of each
major version of Node.js.

Runtimes: ${runtimes.map(({ name }) => name).join(', ')} or node, bun, deno`

const names = runtimes.flatMap(({ name, kind }) => [name, kind])
const {
  only,
  file,
  others,
  newest: isNewest,
  built,
} = readOptions(help, {
  only: { list: ofServers ? Object.keys(servers) : [...new Set(names)] },
  file: {},
  others: { type: 'boolean' },
  newest: { type: 'boolean' },
  servers: { type: 'boolean' },
})
if (!built) {
  install()
  build()
}
if (!built || !existsSync(`${root}build/__test__`)) compile()
const named = file?.split(',')
const unknown = named?.find((name) => !testNames().includes(name))
if (unknown !== undefined) throw new Error(`There is no test ${unknown}`)

/** The other tests depend on the client, PgBouncer and the network, not on the server. */
const serverTests =
  'abort confirm connections contract failover hostile loss refusals server shared waiting'.split(' ')

function* places() {
  if (ofServers) {
    const files = named ?? serverTests.map((name) => `postgres/${name}`)
    const command = (file, report) => [process.execPath, ...testArguments.node(file, report)]
    for (const major of only ?? Object.keys(servers)) {
      const { missing, bin } = installServer(servers[major])
      const env = { RECONCILE_TEST_POSTGRES_BIN: bin }
      yield { name: `PostgreSQL ${major}`, missing, command, env, files, concurrency: files.length }
    }
    return
  }
  for (const runtime of runtimes) {
    const { name, kind } = runtime
    if (only && !only.includes(name) && !only.includes(kind)) continue
    if (others && name === `node@${process.versions.node}`) {
      console.log(`left out: ${name}, which runs this command`)
      continue
    }
    const chosen = isNewest ? newest(runtime) : runtime
    const { missing, execPath } = installRuntime(chosen)
    const command = (file, report) => [execPath, ...testArguments[kind](file, report)]
    const isWanted = ({ development, long }, folder) =>
      !development && (runtime.long || !long) && (runtime.folders?.includes(folder) ?? true)
    const files = named ?? testNames(isWanted, { server: installPostgres() })
    yield { name: chosen.name, missing, command, files }
  }
}

const total = { passed: 0, failed: 0, skipped: 0 }
const lines = []
const failures = []
for (const { missing, files, ...place } of places()) {
  const started = performance.now()
  const { failures: found, ...counts } = missing
    ? { passed: 0, failed: 1, skipped: 0, failures: [`${place.name}: ${missing}`] }
    : await runSuite(place, files)
  for (const state of Object.keys(total)) total[state] += counts[state]
  failures.push(...found)
  const seconds = ((performance.now() - started) / 1000).toFixed(1)
  const { passed, failed, skipped } = counts
  lines.push(`${place.name.padEnd(16)} ${passed} passed, ${failed} failed, ${skipped} skipped, ${seconds} s`)
}
// Once more at the end, because the log is long.
for (const failure of failures) console.log(`\nfailed: ${failure}`)
console.log(`\n${lines.join('\n')}`)
console.log(`${total.passed} passed, ${total.failed} failed, ${total.skipped} skipped`)
process.exit(total.failed === 0 ? 0 : 1)
