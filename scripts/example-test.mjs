// The example's own tests, against the addon as it is built and packed, and a PostgreSQL of their own.
import { spawnSync } from 'node:child_process'
import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { installPostgres } from './debian.mjs'
import { prepareExample } from './example.mjs'
import { compile } from './suite.mjs'

const example = prepareExample()
// By name: what `node --test` does with a directory differs between versions of Node.
const tests = readdirSync(join(example, 'dist/test')).filter((name) => name.endsWith('.test.js'))
if (tests.length === 0) throw new Error('the example has no tests')
const files = tests.map((name) => join('dist/test', name))

/** A server for the tests; `undefined`, with the reason printed, where none can be had. */
async function startPostgres() {
  const missing = installPostgres()
  if (missing !== undefined) return void console.log(`SKIPPED, as ${missing}: the lock on PostgreSQL`)
  compile()
  const { Postgres } = await import('../build/__test__/postgres/postgres.mjs')
  return Postgres.start()
}

const postgres = await startPostgres()
const env = { ...process.env, RECONCILE_TEST_POSTGRES: postgres?.url() ?? '' }
// Not `run`: the server has to be stopped whatever comes of it.
const { status } = spawnSync(
  process.execPath,
  ['--test', '--test-concurrency=4', '--test-reporter=spec', ...files],
  {
    cwd: example,
    env,
    stdio: 'inherit',
  },
)
await postgres?.stop()
process.exitCode = status ?? 1
