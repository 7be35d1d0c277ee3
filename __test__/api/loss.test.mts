// A holder is notified when its lock is lost.
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { subscribe, unsubscribe } from 'node:diagnostics_channel'
import { closeSync, mkdirSync, readFileSync, readlinkSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { acquireLock, acquireLockSync, breakLock, type Lock, type LockMessage } from 'reconcile-lock'
import { directory, rejection } from '../support/directory.mjs'
import { knownFailure } from '../support/known-failure.mjs'
import { ended } from '../support/program.mjs'
import { sleep, until } from '../support/time.mjs'
import { noDeletion } from '../support/wine.mjs'

const home = fileURLToPath(new URL('../../../dist/index.js', import.meta.url))

/** Far more than an event takes, and less than half of the interval of the checks without one. */
const AT_ONCE = 100

function lostAmong(t: TestContext, cwd: string): LockMessage[] {
  const messages: LockMessage[] = []
  const listener = (message: unknown) => {
    if ((message as LockMessage).path.startsWith(cwd)) messages.push(message as LockMessage)
  }
  subscribe('reconcile-lock:lost', listener)
  t.after(() => unsubscribe('reconcile-lock:lost', listener))
  return messages
}

const aborted = (lock: Lock) => until(() => lock.signal.aborted, 'the signal is aborted')

const losses: [what: string, lose: (lock: Lock) => unknown, reason: string][] = [
  ['removed', ({ path }) => rmSync(path), 'the path no longer names a file'],
  [
    'replaced',
    ({ path }) => {
      writeFileSync(`${path}.new`, '')
      renameSync(`${path}.new`, path)
    },
    'the path names another file now',
  ],
  ['moved', ({ path }) => renameSync(path, `${path}.old`), 'the path no longer names a file'],
  ['broken', ({ path }) => breakLock({ file: path, force: true }), 'the path no longer names a file'],
]
for (const [what, lose, reason] of losses)
  test(
    `signal is aborted when the file is ${what}`,
    knownFailure(what === 'moved' ? [] : noDeletion, async (t) => {
      const cwd = directory(t)
      const lock = await acquireLock(cwd)
      assert.equal(lock.signal.aborted, false)
      assert.equal(lock.signal, lock.signal)
      await lose(lock)
      await aborted(lock)
      const { code, message, path } = lock.signal.reason
      assert.deepEqual([code, path], ['E_LOCK_LOST', lock.path])
      assert.equal(
        message,
        `lost the lock ${path} while holding it: ${reason}; another process may have acquired it`,
      )
      assert.equal(lock.isHeld(), false)
      assert.equal((await rejection(lock.release())).code, 'E_LOCK_LOST')
    }),
  )

for (const [event, isReplaced] of [
  ['the directory is moved', false],
  ['a file replaces the directory', true],
] as const)
  test(`signal is aborted when ${event}`, async (t) => {
    const parent = directory(t)
    const cwd = join(parent, 'a')
    mkdirSync(cwd)
    const lock = await acquireLock(cwd)
    assert.equal(lock.signal.aborted, false)
    renameSync(cwd, join(parent, 'b'))
    if (isReplaced) writeFileSync(cwd, '')
    await aborted(lock)
    assert.equal(lock.signal.reason.reason, 'the path no longer names a file')
  })

test('events report most losses at once', {
  skip: process.platform !== 'linux' && 'it counts the watches of inotify',
}, async (t) => {
  const cwd = directory(t)
  const times: number[] = []
  for (let round = 0; round < 15; round++) {
    const lock = acquireLockSync({ cwd, file: `${round}` })
    const { signal } = lock
    await until(() => inotifyWatches() > 0, 'the file is watched')
    const before = performance.now()
    const end = new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve()))
    const running = setInterval(() => {}, 1000)
    rmSync(lock.path)
    await end
    clearInterval(running)
    times.push(performance.now() - before)
    assert.throws(lock.releaseSync, { code: 'E_LOCK_LOST' })
  }
  const median = times.sort((a, b) => a - b)[7] ?? 0
  t.diagnostic(`p50 ${median.toFixed(2)} ms`)
  assert.ok(median < AT_ONCE, `${median} ms`)
})

/** How many files this process watches. */
function inotifyWatches(): number {
  const tables = Array.from({ length: 64 }, (_, fd) => {
    try {
      if (!readlinkSync(`/proc/self/fd/${fd}`).includes('inotify')) return 0
      return readFileSync(`/proc/self/fdinfo/${fd}`, 'utf8').split('inotify wd:').length - 1
    } catch {
      return 0
    }
  })
  return tables.reduce((sum, each) => sum + each, 0)
}

test(
  'the channel reports a loss once, without a release',
  knownFailure(noDeletion, async (t) => {
    const cwd = directory(t)
    const lost = lostAmong(t, cwd)
    const lock = await acquireLock(cwd)
    rmSync(lock.path)
    await until(() => lost.length > 0, 'the loss is published')
    assert.equal((await rejection(lock.release())).code, 'E_LOCK_LOST')
    assert.deepEqual(
      lost.map(({ path }) => path),
      [lock.path],
    )
    assert.equal(lock.signal.reason.code, 'E_LOCK_LOST')
  }),
)

test('a release aborts no signal', async (t) => {
  const cwd = directory(t)
  const lost = lostAmong(t, cwd)
  const lock = await acquireLock(cwd)
  const { signal } = lock
  await lock.release()
  const next = await acquireLock(cwd)
  await sleep(400, 'a check of the released lock would be over')
  assert.deepEqual([signal.aborted, next.signal.aborted, lost], [false, false, []])
  await next.release()
})

test(
  'a release that finds the lock lost aborts its signal',
  knownFailure(noDeletion, async (t) => {
    const lock = await acquireLock(directory(t))
    rmSync(lock.path)
    const error = await rejection(lock.release())
    assert.equal(lock.signal.reason, error)
  }),
)

test(
  'signal is aborted when another part closes the descriptor',
  {
    skip: process.platform !== 'linux' && '/proc/self/fd is of Linux',
  },
  knownFailure({ runtime: 'deno', why: 'Deno closes only the descriptors that it has opened' }, async (t) => {
    const lock = await acquireLock(directory(t))
    assert.equal(lock.signal.aborted, false)
    const fds = Array.from({ length: 256 }, (_, fd) => fd)
    const own = fds.find((fd) => {
      try {
        return readlinkSync(`/proc/self/fd/${fd}`) === lock.path
      } catch {
        return false
      }
    })
    closeSync(own ?? -1)
    await aborted(lock)
    assert.equal(lock.signal.reason.reason, 'another part of this program closed its file')
    await rejection(lock.release())
  }),
)

test('a signal neither prevents the exit nor leaves the file', (t) => {
  const cwd = directory(t)
  const program = `const lock = require(${JSON.stringify(home)}).acquireLockSync(); lock.signal
    process.on('exit', () => console.log('exit'))`
  // If a thread kept the process alive, it would never end. Under qemu, beside many others, it takes 30 s to start.
  const options = { cwd, encoding: 'utf8', timeout: 120_000 } as const
  const { stdout, stderr, status } = spawnSync(process.execPath, ['-e', program], options)
  assert.deepEqual([stdout, stderr, status], ['exit\n', '', 0])
  assert.equal(acquireLockSync(cwd).takenOver, undefined)
})

test('only the first read of signal starts a watch', (t) => {
  const body = `
    const native = require(Object.keys(require.cache).find((path) => path.endsWith('.node')))
    const { reportLoss } = native
    let calls = 0
    native.reportLoss = (...args) => {
      calls += 1
      return reportLoss(...args)
    }
    const held = lock.acquireLockSync(cwd)
    console.log(held.signal === held.signal, calls)`
  assert.equal(ended(t, directory(t), body).stdout, 'true 1\n')
})

test(
  'a lock whose signal was not read is not watched',
  { skip: process.platform !== 'linux' && '/proc/self/task is of Linux' },
  knownFailure({ runtime: 'bun', why: 'Bun starts threads of its own at any time', sometimes: true }, (t) => {
    const program = `const { acquireLockSync } = require(${JSON.stringify(home)})
      const threads = () => require('node:fs').readdirSync('/proc/self/task').length
      const before = threads()
      const lock = acquireLockSync()
      const unread = threads()
      lock.signal
      console.log(unread - before, threads() - before > 0)`
    const options = { cwd: directory(t), encoding: 'utf8' } as const
    const { stdout, stderr } = spawnSync(process.execPath, ['-e', program], options)
    assert.deepEqual([stdout, stderr], ['0 true\n', ''])
  }),
)
