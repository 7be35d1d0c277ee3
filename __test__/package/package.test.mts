import assert from 'node:assert/strict'
import { execFileSync, spawnSync } from 'node:child_process'
import {
  copyFileSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import * as reconcileLock from 'reconcile-lock'
import { Listener } from '../support/cli.mjs'
import { directory } from '../support/directory.mjs'
import { platforms } from '../support/release.mjs'
import { hasTerminal, quoted, Terminal } from '../support/terminal.mjs'

const root = fileURLToPath(new URL('../../..', import.meta.url))
const project = mkdtempSync(join(tmpdir(), 'reconcile-lock-package-'))
const npm = (args: string[], cwd: string) => execFileSync('npm', args, { cwd, encoding: 'utf8' })

before(() => {
  const [packed] = JSON.parse(
    npm(['pack', '--json', '--ignore-scripts', '--pack-destination', project], root),
  )
  writeFileSync(join(project, 'package.json'), JSON.stringify({ name: 'empty', private: true }))
  npm(['install', '--no-audit', '--no-fund', join(project, packed.filename)], project)
})
after(() => rmSync(project, { recursive: true, force: true }))

const use = `
  const lock = await acquireLock()
  const refused = await acquireLock().catch((error) => error)
  if (!(refused instanceof LockError)) throw refused
  console.log(refused.recoverable, refused.message, lock.isHeld())
  await lock.release()
`
const said = 'true Another reconcile run is in progress true\n'

function runs(name: string, text: string): void {
  writeFileSync(join(project, name), text)
  assert.equal(execFileSync(process.execPath, [name], { cwd: project, encoding: 'utf8' }), said)
}

test('the packed package works with import', () => {
  runs('esm.mjs', `import { acquireLock, LockError } from 'reconcile-lock'\n${use}`)
})

test('import finds every export by name', () => {
  const names = Object.keys(reconcileLock).filter((name) => name !== 'default' && name !== 'module.exports')
  runs('names.mjs', `import { ${names} } from 'reconcile-lock'\n${use}`)
  assert.equal(names.length, 10)
})

test('the packed package works with require', () => {
  runs('cjs.cjs', `const { acquireLock, LockError } = require('reconcile-lock')\n!(async () => {${use}})()`)
})

/** The version that the project uses, and the oldest that README.md names. */
const compilers = ['typescript', 'typescript-5.2'].map((name) => join(root, 'node_modules', name, 'bin/tsc'))

test('both TypeScript versions compile ES and CommonJS modules', () => {
  mkdirSync(join(project, 'node_modules', '@types'), { recursive: true })
  symlinkSync(join(root, 'node_modules/@types/node'), join(project, 'node_modules/@types/node'))
  symlinkSync(join(root, 'node_modules/undici-types'), join(project, 'node_modules/undici-types'))
  const imports = `import { acquireLock, LockError } from 'reconcile-lock'\n`
  writeFileSync(
    join(project, 'typed.mts'),
    `${imports}${use.replace('.catch((error)', '.catch((error: unknown)')}`,
  )
  copyFileSync(join(root, '__test__/types/esm.mts'), join(project, 'every-call.mts'))
  writeFileSync(
    join(project, 'typed.cts'),
    `${imports}void acquireLock().then((lock) => lock.release()).catch((error) => error instanceof LockError)\n`,
  )
  const options = { module: 'nodenext', target: 'es2022', strict: true, skipLibCheck: false, types: ['node'] }
  writeFileSync(
    join(project, 'tsconfig.json'),
    JSON.stringify({ compilerOptions: options, files: ['typed.mts', 'typed.cts', 'every-call.mts'] }),
  )
  for (const compiler of compilers) {
    const tsc = spawnSync(process.execPath, [compiler, '-p', project], { encoding: 'utf8' })
    assert.equal(tsc.status, 0, `${compiler}: ${tsc.stdout}`)
  }
  assert.equal(execFileSync(process.execPath, ['typed.mjs'], { cwd: project, encoding: 'utf8' }), said)
})

test('reconcile-lock/postgres type-checks with and without the types of pg', () => {
  const use = `
    const locks = postgresLocks({ connectionString: 'postgres://localhost/x' })
    const call = async (): Promise<bigint> => {
      await using lock = await locks.acquireLock({ name: 'n', timeout: 1, signal: new AbortController().signal })
      const aborted: boolean = lock.signal.aborted
      return aborted ? 0n : lock.token
    }
    console.log(typeof call, typeof LockError, typeof lockKey('x'), tableSql().length > 0)`
  const imports = `import { LockError, lockKey, postgresLocks, tableSql } from 'reconcile-lock/postgres'\n`
  for (const name of ['database.mts', 'database.cts']) writeFileSync(join(project, name), imports + use)
  const options = {
    module: 'nodenext',
    target: 'es2022',
    lib: ['es2023', 'esnext.disposable'],
    strict: true,
    exactOptionalPropertyTypes: true,
    skipLibCheck: false,
    types: ['node'],
  }
  const files = ['database.mts', 'database.cts']
  const config = (more: string[]) =>
    writeFileSync(
      join(project, 'tsconfig.json'),
      JSON.stringify({ compilerOptions: options, files: [...files, ...more] }),
    )
  const compiler = join(root, 'node_modules/typescript/bin/tsc')
  const compile = () => spawnSync(process.execPath, [compiler, '-p', project], { encoding: 'utf8' })
  config([])
  assert.equal(compile().stdout, '')
  for (const name of ['database.mjs', 'database.cjs'])
    assert.equal(
      execFileSync(process.execPath, [name], { cwd: project, encoding: 'utf8' }),
      'function function bigint true\n',
    )
  for (const name of ['pg', 'pg-types', 'pg-protocol', '@types/pg'])
    symlinkSync(join(root, 'node_modules', name), join(project, 'node_modules', name))
  const client = `import pg from 'pg'
    import { postgresLocks } from 'reconcile-lock/postgres'
    postgresLocks({ connect: () => new pg.Client('postgres://localhost') })
    postgresLocks({ connect: async () => new pg.Client({ host: 'h' }) })\n`
  writeFileSync(join(project, 'client.mts'), client)
  config(['client.mts'])
  assert.equal(compile().stdout, '')
})

test('npx finds the command line in a project and clone', () => {
  // In a clone npx would run `prepare` and rebuild the addon while other tests use it.
  const env = { ...process.env, npm_config_ignore_scripts: 'true' }
  const npx = (cwd: string, ...args: string[]) =>
    execFileSync('npx', ['--no-install', 'reconcile-lock', ...args], { cwd, env, encoding: 'utf8' })
  const { version } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'))
  for (const cwd of [project, root]) assert.equal(npx(cwd, '--version'), `${version}\n`)
  const words = ['a b', '*', '$HOME', "it's", '--help', '--']
  const printed = npx(project, '--file', 'l', 'run', '--', 'printf', '%s|', ...words)
  assert.equal(printed, words.map((word) => `${word}|`).join(''))
})

test('the lock outlasts Ctrl-C under npx until the command ends', async (t) => {
  if (!hasTerminal(t)) return
  const cwd = directory(t)
  const [lock, listener] = [join(cwd, 'lock'), new Listener(cwd, ['SIGINT'])]
  const run = ['npx', '--no-install', 'reconcile-lock', 'run', '--file', lock, '--', ...listener.command]
  const terminal = new Terminal(t, quoted(run), project)
  await listener.pid()
  terminal.type('\x03')
  await listener.receives('SIGINT')
  assert.equal(reconcileLock.inspectLockSync({ file: lock }).state, 'held')
  writeFileSync(join(cwd, 'end'), '')
  await terminal.ends()
  assert.equal(listener.received(), 'SIGINT')
  assert.equal(reconcileLock.inspectLockSync({ file: lock }).state, 'free')
})

test('the package contains exactly the expected files', () => {
  const [packed] = JSON.parse(npm(['pack', '--json', '--dry-run', '--ignore-scripts'], root))
  const files: string[] = packed.files.map((file: { path: string }) => file.path)
  const binaries = files.filter((file) => file.endsWith('.node'))
  assert.ok(binaries.length > 0, 'no binary is packed')
  const others = files.filter((file) => !file.endsWith('.node')).sort()
  assert.deepEqual(others, JSON.parse(readFileSync(join(root, 'tools/package-files.json'), 'utf8')).main)
})

test('the loader names the package of every published platform', () => {
  const loader = readFileSync(join(root, 'dist/index.js'), 'utf8')
  const required = [...loader.matchAll(/require\("(@reconcile-lock\/.*)"\)/g)].map(([, name]) => name)
  assert.deepEqual(required.sort(), platforms.map((platform) => platform.package).sort())
  for (const { name } of platforms) assert.ok(loader.includes(`"${name}"`), name)
})

test('loading the package has no side effects', () => {
  const program = `
    const seen = () => JSON.stringify({
      globals: Reflect.ownKeys(globalThis).map(String),
      env: process.env,
      listeners: process.eventNames().map((name) => [String(name), process.listenerCount(name)]),
      handles: process.getActiveResourcesInfo(),
      limit: Error.stackTraceLimit,
      report: process.report.excludeNetwork,
    })
    require('node:diagnostics_channel')
    const before = seen()
    require('reconcile-lock')
    console.log(before === seen() ? 'same' : before + seen())`
  writeFileSync(join(project, 'effects.cjs'), program)
  assert.equal(execFileSync(process.execPath, ['effects.cjs'], { cwd: project, encoding: 'utf8' }), 'same\n')
  assert.equal(JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')).sideEffects, false)
})
