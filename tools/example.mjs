// The example as a user of the package has it: copied elsewhere, with the packed addon installed, compiled. By itself it
// runs the example's own tests, against a PostgreSQL of their own.
import { spawnSync } from 'node:child_process'
import { cpSync, mkdirSync, mkdtempSync, readdirSync, realpathSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { basename, join } from 'node:path'
import { installPostgres } from './debian.mjs'
import { root, run } from './steps.mjs'
import { compile } from './suite.mjs'

/** What an earlier build or a try by hand has left in the example's directory. */
const built = new Set(['node_modules', 'dist', 'package-lock.json'])

/** Packs the built addon, installs it in a copy of the example, compiles that, and gives its directory. */
export function prepareExample() {
  const temporary = mkdtempSync(join(realpathSync(tmpdir()), 'reconcile-example-'))
  process.on('exit', () => rmSync(temporary, { recursive: true, force: true }))
  // Ended by a signal, a process emits no `exit`.
  for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => process.exit(1))

  const packed = join(temporary, 'packed')
  const example = join(temporary, 'reconcile')
  mkdirSync(packed)
  const filter = (path) => !built.has(basename(path))
  cpSync(join(root, 'examples/reconcile'), example, { recursive: true, filter })
  // Not `prepare`: it would build a second time.
  run('npm', ['pack', '--ignore-scripts', '--silent', '--pack-destination', packed])
  const [tarball] = readdirSync(packed)
  const quiet = ['--no-save', '--no-package-lock', '--ignore-scripts', '--no-audit', '--no-fund']
  // Its development packages are those of the project; npm asks for what it knows of them all the same.
  run('npm', ['install', ...quiet, '--omit=dev', '--prefer-offline', join(packed, tarball)], { cwd: example })
  const types = join(root, 'node_modules/@types')
  run(process.execPath, [join(root, 'node_modules/typescript/bin/tsc'), '-p', example, '--typeRoots', types])
  return example
}

if (process.argv[1] === import.meta.filename) {
  const example = prepareExample()
  // By name: what `node --test` does with a directory differs between versions of Node.
  const tests = readdirSync(join(example, 'dist/test')).filter((name) => name.endsWith('.test.js'))
  if (tests.length === 0) throw new Error('the example has no tests')
  const missing = installPostgres()
  if (missing === undefined) compile()
  else console.log(`SKIPPED, as ${missing}: the lock on PostgreSQL`)
  const { Postgres } = missing === undefined ? await import('../build/__test__/postgres/postgres.mjs') : {}
  const postgres = await Postgres?.start()
  const env = { ...process.env, RECONCILE_TEST_POSTGRES: postgres?.url() ?? '' }
  const args = ['--test', '--test-concurrency=4', '--test-reporter=spec']
  const files = tests.map((name) => join('dist/test', name))
  // Not `run`: the server has to be stopped whatever comes of it.
  const { status } = spawnSync(process.execPath, [...args, ...files], { cwd: example, env, stdio: 'inherit' })
  await postgres?.stop()
  process.exitCode = status ?? 1
}
