// Prepares the example as a user of the package has it: copied elsewhere, with the packed addon installed, compiled.
// Run as a program, it also runs the example's own tests with a separate PostgreSQL server.
import { spawnSync } from 'node:child_process'
import { cpSync, mkdirSync, readdirSync, realpathSync } from 'node:fs'
import { basename, join } from 'node:path'
import { installPostgres } from './debian.mjs'
import { makeDirectory } from './filesystems.mjs'
import { root, run } from './steps.mjs'
import { compile } from './suite.mjs'

/** Files that an earlier build or a manual run may have left in the directory of the example. */
const built = new Set(['node_modules', 'dist', 'package-lock.json'])

/** Packs the built addon, installs it in a copy of the example, and compiles that; returns its directory. */
export function prepareExample() {
  const temporary = realpathSync(makeDirectory())
  const packed = join(temporary, 'packed')
  const example = join(temporary, 'reconcile')
  mkdirSync(packed)
  const filter = (path) => !built.has(basename(path))
  cpSync(join(root, 'examples/reconcile'), example, { recursive: true, filter })
  // `--ignore-scripts`, because `prepare` would build a second time.
  run('npm', ['pack', '--ignore-scripts', '--silent', '--pack-destination', packed])
  const [tarball] = readdirSync(packed)
  const quiet = ['--no-save', '--no-package-lock', '--ignore-scripts', '--no-audit', '--no-fund']
  // The project has its development packages, but npm still queries their metadata.
  run('npm', ['install', ...quiet, '--omit=dev', '--prefer-offline', join(packed, tarball)], { cwd: example })
  const types = join(root, 'node_modules/@types')
  run(process.execPath, [join(root, 'node_modules/typescript/bin/tsc'), '-p', example, '--typeRoots', types])
  return example
}

if (process.argv[1] === import.meta.filename) {
  const example = prepareExample()
  // By name, because `node --test` treats a directory differently between versions.
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
  // Not `run`, which exits on failure: the server must be stopped in any case.
  const { status } = spawnSync(process.execPath, [...args, ...files], { cwd: example, env, stdio: 'inherit' })
  await postgres?.stop()
  process.exitCode = status ?? 1
}
