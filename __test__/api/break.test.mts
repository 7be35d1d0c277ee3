// breakLock: the files that it removes and refuses, and its protocol.
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { acquireLock, acquireLockSync, breakLock, inspectLockSync, resolveLockPath } from 'reconcile-lock'
import { Peer, send } from '../support/child.mjs'
import {
  deadPid,
  directory,
  isLinux,
  leave,
  MESSAGE,
  rejection,
  withoutSignals,
} from '../support/directory.mjs'
import { knownFailure } from '../support/known-failure.mjs'
import { tracedEmulator } from '../support/qemu.mjs'
import { cannotAttach, Subject } from '../support/strace.mjs'
import { Thread } from '../support/thread.mjs'
import { sleep, until } from '../support/time.mjs'
import { noDeletion } from '../support/wine.mjs'
import { Pollers } from './poller.mjs'

const SECONDS = 3
const stale = () => JSON.stringify({ pid: deadPid(), createdAt: 1 })

test('breakLock removes a stale lock and returns false without one', async (t) => {
  const cwd = directory(t)
  assert.equal(await breakLock(cwd), false)
  assert.equal(await breakLock({ cwd, force: true }), false)
  for (const content of [stale(), 'no record', '']) {
    leave(cwd, content)
    assert.equal(await breakLock(cwd), true)
    assert.deepEqual(readdirSync(cwd), [])
  }
  const killed = new Peer(t)
  await killed.acquire(cwd)
  await killed.ends('SIGKILL')
  assert.equal(await breakLock({ cwd }), true)
  const lock = acquireLockSync(cwd)
  assert.equal(lock.takenOver, undefined)
  lock.releaseSync()
})

type Holding = { pid: number | undefined; thread: number; end: () => Promise<unknown> }

/** Holders; `end` releases and returns the code of the error. */
const holders: Record<string, (t: TestContext, cwd: string) => Promise<Holding>> = {
  async 'this thread'(_, cwd) {
    const lock = await acquireLock(cwd)
    return { pid: process.pid, thread: 0, end: async () => (await rejection(lock.release())).code }
  },
  async 'another thread'(t, cwd) {
    const thread = new Thread(t)
    await thread.ask('acquire', cwd)
    return { pid: process.pid, thread: thread.id, end: async () => (await thread.ask('release', cwd)).code }
  },
  async 'another process'(t, cwd) {
    const peer = new Peer(t)
    await peer.acquire(cwd)
    return { pid: peer.child.pid, thread: 0, end: async () => (await peer.ask({ do: 'release', cwd })).code }
  },
  async 'a stopped process'(t, cwd) {
    const peer = new Peer(t)
    await peer.acquire(cwd)
    send(peer.child, 'SIGSTOP')
    const end = async () => {
      send(peer.child, 'SIGCONT')
      return (await peer.ask({ do: 'release', cwd })).code
    }
    return { pid: peer.child.pid, thread: 0, end }
  },
}

for (const [name, hold] of Object.entries(holders)) {
  const skip = name.includes('stopped') && withoutSignals
  test(
    `breakLock needs force for a lock of ${name}`,
    {
      skip,
    },
    knownFailure(noDeletion, async (t) => {
      const cwd = directory(t)
      const path = resolveLockPath(cwd)
      const { pid, thread, end } = await hold(t, cwd)
      const before = readFileSync(path)
      const { holder } = inspectLockSync(cwd)
      assert.deepEqual([holder?.pid, holder?.thread], [pid, thread])
      for (const options of [{ cwd }, { cwd, force: false }, { cwd, message: 'Held' }]) {
        const error = await rejection(breakLock(options))
        const message = 'message' in options ? 'Held' : MESSAGE
        assert.deepEqual(
          [error.name, error.code, error.message, error.recoverable, error.path, error.holder],
          ['LockError', 'E_LOCK_CONTENTION', message, true, path, holder],
        )
        assert.deepEqual(readFileSync(path), before)
      }
      assert.equal(await breakLock({ cwd, force: true }), true)
      assert.deepEqual(readdirSync(cwd), [])
      const next = acquireLockSync(cwd)
      assert.equal(next.takenOver, undefined)
      assert.equal(await end(), 'E_LOCK_LOST')
      assert.equal(next.isHeld(), true)
      next.releaseSync()
      assert.deepEqual(readdirSync(cwd), [])
    }),
  )
}

test('breakLock is refused while another program holds the kernel lock', {
  skip: !isLinux && 'flock(1) exists only on Linux',
}, async (t) => {
  const cwd = directory(t)
  const path = leave(cwd, stale())
  const before = readFileSync(path)
  const locker = spawn('flock', [path, 'sh', '-c', 'echo locked; read line'], {
    stdio: ['pipe', 'pipe', 'inherit'],
  })
  await once(locker.stdout, 'data')
  const refused = await rejection(breakLock(cwd))
  assert.deepEqual([refused.code, refused.message], ['E_LOCK_CONTENTION', MESSAGE])
  assert.deepEqual(readFileSync(path), before)
  const ended = once(locker, 'exit')
  locker.stdin.end('go\n')
  await ended
  assert.equal(await breakLock(cwd), true)
  assert.equal(existsSync(path), false)
})

test('breakLock waits for the record of a lock being created', async (t) => {
  const cwd = directory(t)
  const path = leave(cwd, '', 0)
  const refused = rejection(breakLock(cwd))
  await sleep(50, 'the call has read the empty file by then')
  writeFileSync(path, JSON.stringify({ pid: process.ppid, createdAt: 5 }))
  const error = await refused
  assert.deepEqual([error.code, error.holder], ['E_LOCK_CONTENTION', { pid: process.ppid, createdAt: 5 }])
})

const skip = await cannotAttach()

for (const [when, call] of [
  ['before', 'flock:delay_enter=400000'],
  ['after', 'flock:delay_exit=400000'],
] as const) {
  test(
    `breakLock keeps a lock acquired just ${when} its flock call`,
    { skip },
    knownFailure(tracedEmulator, async (t) => {
      const [cwd, log] = [directory(t), directory(t)]
      const subject = new Subject(t, { sync: directory(t), async: cwd }, join(log, 'strace'))
      const isDelayed = () => isInFlock(subject.child.pid ?? 0)
      await until(async () => {
        const path = leave(cwd, stale())
        const breaking = subject.traced('break', [call])
        await until(isDelayed, 'strace delays flock')
        rmSync(path, { force: true })
        const lock = acquireLockSync(cwd)
        const isInTime = isDelayed()
        const { report, sites } = await breaking
        assert.ok(
          sites.async.some((site) => site.call === 'flock'),
          'breakLock called flock',
        )
        if (isInTime) {
          assert.equal(report.async?.error?.code, 'E_LOCK_CONTENTION')
          assert.equal(lock.isHeld(), true)
        }
        lock.releaseSync()
        return isInTime
      }, 'a lock is acquired during the delay')
    }),
  )
}

/** Whether strace has stopped a thread of a process in flock(2). */
function isInFlock(pid: number): boolean {
  const home = `/proc/${pid}/task`
  const number = { x64: '73', arm64: '32' }[process.arch as string]
  return readdirSync(home).some((thread) => {
    try {
      const isStopped = /\) t /.test(readFileSync(`${home}/${thread}/stat`, 'latin1'))
      return isStopped && readFileSync(`${home}/${thread}/syscall`, 'latin1').split(' ')[0] === number
    } catch {
      // The thread has ended.
      return false
    }
  })
}

test('concurrent breakLock calls do not remove a held lock', async (t) => {
  const cwd = directory(t)
  const breakers = await Pollers.start(t, 3, 'break', cwd)
  const left = stale()
  let pairs = 0
  for (const end = performance.now() + SECONDS * 1000; performance.now() < end || pairs < 1000; pairs += 1) {
    if (pairs % 50 === 0) writeFileSync(resolveLockPath(cwd), left)
    const lock = acquireLockSync({ cwd, timeout: 10_000 })
    assert.equal(lock.isHeld(), true)
    lock.releaseSync()
  }
  const breaks = (await breakers.end()).reduce((sum, { count }) => sum + count, 0)
  t.diagnostic(`${pairs} pairs beside ${breaks} attempts to break`)
  assert.ok(breaks > 100)
})
