// The package in Jest, where each test file has its own realm and module registry over one binary.
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { readdirSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { directory } from '../support/directory.mjs'
import { copyPackage, root } from '../support/packages.mjs'

const require = createRequire(join(root, 'package.json'))

const TESTS = `
const fs = require('node:fs')
const os = require('node:os')
const path = require('node:path')
const lock = require('reconcile-lock')
const cwd = fs.mkdtempSync(path.join(process.env.LOCKS, 'lock-'))
const refusal = (call) => call.then(() => { throw new Error('not refused') }, (error) => error)

async function shared(first, second) {
  const held = await first.acquireLock(cwd)
  const refused = await refusal(second.acquireLock(cwd))
  expect(refused).toBeInstanceOf(first.LockError)
  expect(refused).toBeInstanceOf(second.LockError)
  expect(refused).toBeInstanceOf(Error)
  expect(refused.code).toBe('E_LOCK_CONTENTION')
  const waiting = second.acquireLock({ cwd, timeout: 20000 })
  await first.releaseLock(cwd)
  const next = await waiting
  expect([held.isHeld(), next.isHeld()]).toEqual([false, true])
  await first.releaseLock(next)
  expect(fs.readdirSync(cwd)).toEqual([])
}

test('resetModules: both copies share the locks', async () => {
  jest.resetModules()
  const second = require('reconcile-lock')
  expect(second).not.toBe(lock)
  await shared(lock, second)
  await shared(second, lock)
})

test('isolateModules: both copies share the locks', async () => {
  let second
  jest.isolateModules(() => { second = require('reconcile-lock') })
  await shared(lock, second)
})

test('errors are those of this realm', async () => {
  const error = await refusal(lock.acquireLock(5))
  expect(error).toBeInstanceOf(TypeError)
  expect(() => lock.acquireLockSync({ timeout: -1 })).toThrow(RangeError)
  expect(await refusal(lock.acquireLock({ cwd: path.join(cwd, 'missing') }))).toBeInstanceOf(Error)
})

test('after a loss withLock rejects with the error of fn', async () => {
  const mine = new Error('mine')
  const failed = (held) => {
    fs.rmSync(held.path)
    throw mine
  }
  expect(await refusal(lock.withLock(failed, cwd))).toBe(mine)
})

test('the error of the loader is reported', () => {
  const file = path.join(cwd, 'garbage.node')
  fs.writeFileSync(file, 'garbage '.repeat(512))
  process.env.NAPI_RS_NATIVE_LIBRARY_PATH = file
  try {
    jest.isolateModules(() => expect(() => require('reconcile-lock')).toThrow(/cause: [^\\n]+garbage\\.node: /))
  } finally {
    delete process.env.NAPI_RS_NATIVE_LIBRARY_PATH
    fs.rmSync(file)
  }
})

test('fake timers do not delay a copy loaded later', async () => {
  jest.useFakeTimers()
  try {
    jest.resetModules()
    const later = require('reconcile-lock')
    const held = await later.acquireLock(cwd)
    const refused = await refusal(later.acquireLock({ cwd, timeout: 30, onWait() {} }))
    expect(refused.code).toBe('E_LOCK_CONTENTION')
    await held.release()
  } finally {
    jest.useRealTimers()
  }
})

test('mocks of fs, fs/promises and os do not affect locks', async () => {
  jest.resetModules()
  jest.doMock('fs', () => ({ readFileSync: () => 'musl' }))
  jest.doMock('fs/promises')
  jest.doMock('os', () => ({ homedir: () => cwd }))
  try {
    const mocked = require('reconcile-lock')
    const calls = () => mocked.withLock(() => {}, [{ cwd, file: 'a' }, { cwd, file: 'b' }], { timeout: 30 })
    await calls()
    const held = mocked.acquireLockSync({ cwd, file: 'a' })
    expect((await refusal(calls())).code).toBe('E_LOCK_CONTENTION')
    held.releaseSync()
  } finally {
    for (const name of ['fs', 'fs/promises', 'os']) jest.dontMock(name)
  }
})

test('fake timers do not delay calls', async () => {
  jest.useFakeTimers()
  try {
    const held = await lock.acquireLock(cwd)
    await refusal(lock.acquireLock({ cwd, timeout: 30, onWait() {} }))
    await held.release()
  } finally {
    jest.useRealTimers()
  }
})

test('a test may leave a lock held', async () => {
  await lock.acquireLock({ cwd, file: 'left' })
})
`

/** Like jsdom, without the globals that only Node.js has. */
const BARE = `
const { TestEnvironment } = require(${JSON.stringify(require.resolve('jest-environment-node'))})
module.exports = class extends TestEnvironment {
  async setup() {
    await super.setup()
    for (const name of ['setImmediate', 'clearImmediate']) delete this.global[name]
  }
}
`

function projectOf(t: TestContext): string {
  const project = directory(t)
  copyPackage(join(project, 'node_modules/reconcile-lock'))
  writeFileSync(join(project, 'package.json'), JSON.stringify({ jest: { testEnvironment: 'node' } }))
  return project
}

function runJest(project: string, locks: string, ...options: string[]) {
  const jest = [join(root, 'node_modules/jest/bin/jest.js'), '--ci', '--rootDir', project, ...options]
  return spawnSync(process.execPath, jest, {
    cwd: project,
    env: { ...process.env, LOCKS: locks, NODE_OPTIONS: '' },
    encoding: 'utf8',
    timeout: 120_000,
  })
}

test('the package works in Jest with and without setImmediate', (t) => {
  const project = projectOf(t)
  const locks = directory(t)
  writeFileSync(join(project, 'bare.cjs'), BARE)
  writeFileSync(join(project, 'one.test.js'), TESTS)
  writeFileSync(join(project, 'two.test.js'), `/** @jest-environment ./bare.cjs */\n${TESTS}`)
  const { status, stderr } = runJest(project, locks, '--runInBand')
  assert.match(stderr, /^Tests: +18 passed, 18 total$/m)
  assert.equal(status, 0, stderr)
  const left = readdirSync(locks, { recursive: true }).filter((name) => String(name).endsWith('left'))
  assert.deepEqual(left, [], 'the exit of Jest releases the locks that tests left held')
})

test('Jest reports no open handle but that of a wait', (t) => {
  const project = projectOf(t)
  const program = `
    const lock = require('reconcile-lock')
    const cwd = process.env.LOCKS
    test('a test', async () => {
      const held = await lock.acquireLock(cwd)
      const waiting = lock.acquireLock({ cwd, timeout: 2000 })
      await held.release()
      await (await waiting).release()`
  const endOfTest = '\n})'
  const left = '\nlock.acquireLockSync(cwd); lock.acquireLock({ cwd, timeout: 2000 }).catch(() => {})'
  for (const [end, reported] of [
    ['', false],
    [left, true],
  ] as const) {
    writeFileSync(join(project, 'handles.test.js'), program + end + endOfTest)
    const { status, stderr } = runJest(project, directory(t), '--detectOpenHandles')
    assert.equal(status, 0, stderr)
    assert.equal(/detected .* open handle[\s\S]*reconcile-lock/.test(stderr), reported, stderr)
  }
})
