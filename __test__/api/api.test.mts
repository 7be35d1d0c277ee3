import assert from 'node:assert/strict'
import { AsyncLocalStorage } from 'node:async_hooks'
import * as fs from 'node:fs'
import { createRequire } from 'node:module'
import { join, resolve } from 'node:path'
import { test } from 'node:test'
import * as api from 'reconcile-lock'
import { directory, isLinux, isWindows, MESSAGE, PRIVATE, rejection } from '../support/directory.mjs'
import { knownFailure } from '../support/known-failure.mjs'
import { ended } from '../support/program.mjs'
import { noDeletion } from '../support/wine.mjs'

const { acquireLock, acquireLockSync, breakLock, inspectLock, inspectLockSync, LockError } = api
const { releaseLock, releaseLockSync, resolveLockPath, withLock } = api
const FILE = '.xero-reconcile-lock.json'

test('import and require export the documented names', () => {
  const names = Object.keys(api).filter((name) => name !== 'default' && name !== 'module.exports')
  assert.deepEqual(names.sort(), [
    'LockError',
    'acquireLock',
    'acquireLockSync',
    'breakLock',
    'inspectLock',
    'inspectLockSync',
    'releaseLock',
    'releaseLockSync',
    'resolveLockPath',
    'withLock',
  ])
  const required = createRequire(import.meta.url)('reconcile-lock')
  assert.equal(required.acquireLock, acquireLock)
  assert.deepEqual(Object.keys(required).sort(), names)
})

test('loading the package leaves the standard streams blocking', {
  skip: !isLinux && 'only Linux shows the flags of a descriptor',
}, (t) => {
  const cwd = directory(t)
  const body = `const { constants, readFileSync, writeSync } = require('node:fs')
      lock.acquireLockSync(cwd).releaseSync()
      const flags = (n) => parseInt(/flags:\\s*(\\d+)/.exec(readFileSync('/proc/self/fdinfo/' + n, 'utf8'))[1], 8)
      writeSync(1, String([1, 2].map((n) => flags(n) & constants.O_NONBLOCK)))`
  assert.equal(ended(t, cwd, body).stdout, '0,0')
})

test('acquireLock uses the default directory, file name and message', async (t) => {
  const before = process.cwd()
  // Before the directory is removed: Windows does not remove the current directory of a process.
  t.after(() => process.chdir(before))
  const cwd = fs.realpathSync(directory(t))
  process.chdir(cwd)
  assert.equal(resolveLockPath(), join(cwd, FILE))
  const lock = await acquireLock()
  process.chdir(before)
  assert.equal(lock.path, join(cwd, FILE))
  assert.equal((await rejection(acquireLock(cwd))).message, MESSAGE)
  await lock.release()
  assert.deepEqual(fs.readdirSync(cwd), [])
})

test('resolveLockPath resolves paths like node:path', (t) => {
  const cwd = directory(t)
  for (const path of [cwd, `${cwd}/`, `${cwd}//a/./b/../c`, '/', '/../x', '/ä/🔒']) {
    assert.equal(resolveLockPath(path), resolve(path, FILE))
  }
  assert.equal(resolveLockPath('some/where'), join(process.cwd(), 'some/where', FILE))
  assert.equal(resolveLockPath(''), join(process.cwd(), FILE))
  assert.deepEqual(fs.readdirSync(cwd), [])
})

test('the file option resolves against cwd and names independent locks', async (t) => {
  const cwd = directory(t)
  fs.mkdirSync(join(cwd, 'sub'))
  const locks = [
    await acquireLock(cwd),
    await acquireLock({ cwd, file: 'other.lock' }),
    await acquireLock({ cwd, file: 'sub/third.lock' }),
    await acquireLock({ file: join(cwd, 'fourth.lock') }),
    acquireLockSync({ cwd, file: './sub/../fünf 🔒.lock' }),
  ]
  const names = [FILE, 'other.lock', 'sub/third.lock', 'fourth.lock', 'fünf 🔒.lock']
  assert.deepEqual(
    locks.map((lock) => lock.path),
    names.map((name) => join(cwd, name)),
  )
  for (const name of names) assert.equal(fs.statSync(join(cwd, name)).mode & 0o7777, PRIVATE)
  for (const lock of locks) await lock.release()
  assert.deepEqual(fs.readdirSync(cwd), ['sub'])
})

test('a contention error has the configured message and the holder', async (t) => {
  const cwd = directory(t)
  const limit = Error.stackTraceLimit
  assert.ok(limit > 0)
  const before = Date.now()
  const lock = await acquireLock(cwd)
  const { pid, createdAt, host, thread } = lock.holder
  assert.deepEqual([pid, thread], [process.pid, 0])
  assert.ok(createdAt >= before && createdAt <= Date.now())
  assert.equal(typeof host, 'string')
  for (const message of [MESSAGE, 'Token refresh already in progress', '', 'ü 🔒 \0 end']) {
    const options = { cwd, ...(message === MESSAGE ? {} : { message }) }
    const errors = [await rejection(acquireLock(options))]
    try {
      acquireLockSync(options)
    } catch (error) {
      errors.push(error as Error & Record<string, unknown>)
    }
    assert.equal(errors.length, 2)
    for (const error of errors) {
      assert.ok(error instanceof LockError && error instanceof Error)
      assert.deepEqual([error.name, error.message], ['LockError', message])
      assert.deepEqual([error.code, error.recoverable, error.path], ['E_LOCK_CONTENTION', true, lock.path])
      assert.deepEqual(error.holder, lock.holder)
    }
  }
  assert.equal(Error.stackTraceLimit, limit, 'creating an error does not change Error.stackTraceLimit')
  await lock.release()
})

test('withLock holds the lock during fn and returns its result', async (t) => {
  const cwd = directory(t)
  const result = await withLock(async (lock) => {
    assert.equal(lock.isHeld(), true)
    assert.equal((await rejection(withLock(() => 1, cwd))).code, 'E_LOCK_CONTENTION')
    return 42
  }, cwd)
  assert.equal(result, 42)
  assert.equal(await withLock((lock) => lock.path, { cwd, file: 'f' }), join(cwd, 'f'))
  const failure = new Error('mine')
  assert.equal(
    await rejection(
      withLock(() => {
        throw failure
      }, cwd),
    ),
    failure,
  )
  assert.deepEqual(fs.readdirSync(cwd), [])
})

test(
  'withLock rejects for a lost lock unless fn throws',
  knownFailure(noDeletion, async (t) => {
    const cwd = directory(t)
    const lose = () => fs.rmSync(resolveLockPath(cwd))
    assert.equal((await rejection(withLock(lose, cwd))).code, 'E_LOCK_LOST')
    const warned = new Promise((resolve) => process.once('warning', resolve))
    const failure = new Error('mine')
    const both = withLock(() => {
      lose()
      throw failure
    }, cwd)
    assert.equal(await rejection(both), failure)
    assert.equal(((await warned) as { code: string }).code, 'E_LOCK_LOST')
  }),
)

const wrong: [string, unknown, string, new () => Error][] = [
  ['null', null, 'ERR_INVALID_ARG_TYPE', TypeError],
  ['a number', 5, 'ERR_INVALID_ARG_TYPE', TypeError],
  ['a boolean', true, 'ERR_INVALID_ARG_TYPE', TypeError],
  ['a function', () => 1, 'ERR_INVALID_ARG_TYPE', TypeError],
  ['an array', [], 'ERR_INVALID_ARG_TYPE', TypeError],
  ['a symbol', Symbol('x'), 'ERR_INVALID_ARG_TYPE', TypeError],
  ['cwd null', { cwd: null }, 'ERR_INVALID_ARG_TYPE', TypeError],
  ['cwd a number', { cwd: 1 }, 'ERR_INVALID_ARG_TYPE', TypeError],
  ['file an object', { file: {} }, 'ERR_INVALID_ARG_TYPE', TypeError],
  ['message a number', { message: 1 }, 'ERR_INVALID_ARG_TYPE', TypeError],
  ['legacy a string', { legacy: 'false' }, 'ERR_INVALID_ARG_TYPE', TypeError],
  ['legacy null', { legacy: null }, 'ERR_INVALID_ARG_TYPE', TypeError],
  ['mode a string', { mode: '660' }, 'ERR_INVALID_ARG_TYPE', TypeError],
  ['mode 0o770', { mode: 0o770 }, 'ERR_OUT_OF_RANGE', RangeError],
  ['mode 0o060', { mode: 0o060 }, 'ERR_OUT_OF_RANGE', RangeError],
  ['mode 0o10600', { mode: 0o10600 }, 'ERR_OUT_OF_RANGE', RangeError],
  ['mode 2 ** 32 + 0o600', { mode: 2 ** 32 + 0o600 }, 'ERR_OUT_OF_RANGE', RangeError],
  ['mode -1', { mode: -1 }, 'ERR_OUT_OF_RANGE', RangeError],
  ['mode 384.5', { mode: 384.5 }, 'ERR_OUT_OF_RANGE', RangeError],
  ['an unknown option', { retries: 1 }, 'ERR_INVALID_ARG_VALUE', TypeError],
  ['a NUL byte in cwd', '/tmp/a\0b', 'ERR_INVALID_ARG_VALUE', TypeError],
  ['a NUL byte in file', { file: 'a\0b' }, 'ERR_INVALID_ARG_VALUE', TypeError],
  ['a lone surrogate in cwd', '/tmp/\ud800', 'ERR_INVALID_ARG_VALUE', TypeError],
  ['a lone surrogate in file', { file: '\udfff' }, 'ERR_INVALID_ARG_VALUE', TypeError],
  ['a lone surrogate after U+FFFD', { file: '\uFFFD\udfff' }, 'ERR_INVALID_ARG_VALUE', TypeError],
  ['an empty file', { file: '' }, 'ERR_INVALID_ARG_VALUE', TypeError],
  ['a file that is a directory', { file: 'a/' }, 'ERR_INVALID_ARG_VALUE', TypeError],
  ['a file named ..', { file: '..' }, 'ERR_INVALID_ARG_VALUE', TypeError],
]
const acquiring: typeof wrong = [
  ['timeout a string', { timeout: '1' }, 'ERR_INVALID_ARG_TYPE', TypeError],
  ['timeout null', { timeout: null }, 'ERR_INVALID_ARG_TYPE', TypeError],
  ['timeout -1', { timeout: -1 }, 'ERR_OUT_OF_RANGE', RangeError],
  ['timeout NaN', { timeout: Number.NaN }, 'ERR_OUT_OF_RANGE', RangeError],
  ['signal an object', { signal: {} }, 'ERR_INVALID_ARG_TYPE', TypeError],
  ['signal null', { signal: null }, 'ERR_INVALID_ARG_TYPE', TypeError],
  ['force', { force: true }, 'ERR_INVALID_ARG_VALUE', TypeError],
]
const breaking: typeof wrong = [['force a number', { force: 1 }, 'ERR_INVALID_ARG_TYPE', TypeError]]
type Call = (target: never) => unknown
const calls: [string, Call, typeof wrong][] = [
  ['acquireLock', acquireLock, [...wrong, ...acquiring]],
  ['acquireLockSync', acquireLockSync, [...wrong, ...acquiring]],
  [
    'withLock',
    (target) => withLock(() => assert.fail('fn was called'), target),
    // An array means several targets.
    [...wrong.filter(([, value]) => !Array.isArray(value)), ...acquiring],
  ],
  ['releaseLock', releaseLock, wrong],
  ['releaseLockSync', releaseLockSync, wrong],
  ['inspectLock', inspectLock, wrong],
  ['inspectLockSync', inspectLockSync, wrong],
  ['breakLock', breakLock, [...wrong, ...breaking]],
  ['resolveLockPath', resolveLockPath, wrong],
]
for (const [name, call, values] of calls) {
  test(`${name} checks arguments before it accesses the filesystem`, async (t) => {
    const before = process.cwd()
    t.after(() => process.chdir(before))
    const cwd = directory(t)
    process.chdir(cwd)
    for (const [what, value, code, type] of values) {
      let result: unknown
      try {
        result = call(value as never)
        assert.ok(result instanceof Promise, `${what} was accepted`)
      } catch (error) {
        assert.match(name, /Sync$|^resolve/, `${what}: an asynchronous call throws`)
        result = Promise.reject(error)
      }
      const error = await rejection(result as Promise<unknown>)
      assert.equal(error.code, code, what)
      assert.ok(error instanceof type && !(error instanceof LockError), what)
    }
    assert.deepEqual(fs.readdirSync(cwd), [])
  })
}

test('an option set to undefined takes the default', async (t) => {
  const cwd = directory(t)
  const lock = await acquireLock({
    cwd,
    file: undefined,
    message: undefined,
    timeout: undefined,
    signal: undefined,
  })
  assert.equal(lock.path, join(cwd, FILE))
  await releaseLock({ cwd, file: undefined })
})

test('a mode is refused on Windows', { skip: !isWindows && 'this system has modes' }, (t) => {
  const cwd = directory(t)
  assert.throws(() => acquireLockSync({ cwd, mode: 0o660 }), { code: 'E_LOCK_UNSUPPORTED' })
  assert.deepEqual(fs.readdirSync(cwd), [])
  acquireLockSync({ cwd, mode: 0o600 }).releaseSync()
})

test('an abort during fn does not end withLock', async (t) => {
  const cwd = directory(t)
  const [one, several] = [new AbortController(), new AbortController()]
  await withLock(() => one.abort(), { cwd, signal: one.signal })
  await withLock(() => several.abort(), [cwd], { signal: several.signal })
  assert.ok(one.signal.aborted && several.signal.aborted)
})

test('withLock rejects if fn is not a function', async () => {
  assert.equal((await rejection(withLock('x' as never))).code, 'ERR_INVALID_ARG_TYPE')
})

test(
  'acquireLock rejects if the current directory is not valid UTF-8',
  {
    skip: isWindows && 'file names are UTF-16 on Windows',
  },
  knownFailure(
    { runtime: 'deno', why: 'Deno changes invalid UTF-8 in the arguments of a command' },
    async (t) => {
      const odd = Buffer.concat([Buffer.from(`${directory(t)}/`), Buffer.from([0xff, 0xfe])])
      fs.mkdirSync(odd)
      const script = `process.chdir = undefined
    const { acquireLock } = require('reconcile-lock')
    acquireLock().catch((error) => console.log(error.code, error.message))`
      const { execFileSync } = await import('node:child_process')
      const main = createRequire(import.meta.url).resolve('reconcile-lock')
      const program = script.replace('reconcile-lock', main)
      const shell = 'cd "$(printf "%s/\\377\\376" "$1")" && exec "$2" -e "$3"'
      const parent = odd.subarray(0, -3).toString()
      const said = execFileSync('sh', ['-c', shell, 'sh', parent, process.execPath, program], {
        encoding: 'utf8',
        timeout: 30_000,
      })
      assert.match(said, /^E_LOCK_UNSUPPORTED .*UTF-8/)
      assert.deepEqual(fs.readdirSync(odd), [])
    },
  ),
)

test('timers run although the result of each call is there', (t) => {
  const body = `
    const native = require(Object.keys(require.cache).find((path) => path.endsWith('.node')))
    native.release = () => null
    let isLate = false
    setTimeout(() => { isLate = true })
    async function call() {
      for (let calls = 1; calls < 1_000_000; calls += 1) {
        await lock.releaseLock(cwd)
        if (isLate) return 'the timer ran'
      }
    }
    call().then(console.log)`
  assert.equal(ended(t, directory(t), body).stdout, 'the timer ran\n')
})

test('acquire and release keep the AsyncLocalStorage context', async (t) => {
  const store = new AsyncLocalStorage<string>()
  await store.run('mine', async () => {
    const lock = await acquireLock(directory(t))
    assert.equal(store.getStore(), 'mine')
    await lock.release()
    assert.equal(store.getStore(), 'mine')
  })
})
