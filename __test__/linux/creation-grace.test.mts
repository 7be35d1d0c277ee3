// Calls on empty files, each in its creation grace period of 2 s.
import assert from 'node:assert/strict'
import { readdirSync, readFileSync, renameSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { acquireLock, type Holder } from 'reconcile-lock'
import { Peer, send } from '../support/child.mjs'
import { directory, leave, rejection } from '../support/directory.mjs'
import { sleep, until } from '../support/time.mjs'
import { processState, Waiter } from '../support/waiter.mjs'

const CALLS = 1000
/** The limit of the pool, and 16 for threads that end a moment later. */
const MAX_THREADS = 64 + 16
/** The pool adds a thread when none has ended its work for this long: on a busy machine that is not only a hang. */
const STUCK_MS = 50

const threads = (): number => readdirSync('/proc/self/task').length

test(`${CALLS} calls on empty files acquire with few threads`, async (t) => {
  // In memory: while a disk hangs, as during another test's sync, the pool grows.
  const root = directory(t, '/dev/shm')
  const files = Array.from({ length: CALLS }, (_, index) => join(root, String(index)))
  for (const file of files) writeFileSync(file, '')
  const before = threads()
  const began = performance.now()
  const calls = files.map((file) => acquireLock({ file }))
  const perCall = (performance.now() - began) / CALLS
  let most = 0
  const outcomes = Promise.all(calls)
  let isOver = false
  const settled = outcomes.finally(() => {
    isOver = true
  })
  settled.catch(() => {})
  while (!isOver && performance.now() - began < 30_000) {
    most = Math.max(most, threads() - before)
    await sleep(50, 'the threads are counted')
  }
  const locks = await outcomes
  const took = performance.now() - began
  t.diagnostic(`${perCall.toFixed(3)} ms a call, ${most} threads more, ${took.toFixed(0)} ms in all`)
  assert.ok(locks.every((lock) => lock.takenOver?.reason.includes('empty')))
  assert.ok(most <= MAX_THREADS + took / STUCK_MS, `${most} threads more`)
  assert.ok(took > 1900 && took < 20_000, `${took} ms`)
  for (const lock of locks) lock.releaseSync()
})

test('a waiter does not delay a call without a timeout', async (t) => {
  const cwd = directory(t)
  const path = leave(cwd, '', 0)
  const end = new AbortController()
  const waiting = rejection(acquireLock({ cwd, timeout: 60_000, signal: end.signal }))
  await sleep(60, 'the first call waits')
  const refused = rejection(acquireLock(cwd))
  await sleep(100, 'the second call waits for the creator, too')
  writeFileSync(path, JSON.stringify({ pid: process.pid, createdAt: Date.now() }))
  const began = performance.now()
  assert.equal((await refused).code, 'E_LOCK_CONTENTION')
  const took = performance.now() - began
  end.abort()
  await waiting
  assert.ok(took < 3000, `${took} ms`)
})

/** Waits until so many processes are in the queues of the locks of a directory. */
async function queued(cwd: string, count: number): Promise<void> {
  const directory = `:${statSync(cwd).ino} `
  const tickets = () => readFileSync('/proc/locks', 'latin1').split(directory).length - 1
  await until(() => tickets() === count, `${count} processes wait`)
}

test('a waiter of another process does not delay a refusal', async (t) => {
  const cwd = directory(t)
  const peer = new Peer(t)
  assert.equal((await peer.ask({ do: 'acquire', cwd, options: { file: 'other' } })).ok, true)
  const waiter = new Waiter(t)
  // Its start may take longer than the grace period.
  await waiter.usage()
  const path = leave(cwd, '', 0)
  await waiter.begin({ cwd })
  await queued(cwd, 1)
  // It would attempt, which sends an event to the other call.
  send(waiter.child, 'SIGSTOP')
  await until(() => processState(waiter.pid) === 'T', 'the waiter is stopped')
  const refused = rejection(acquireLock(cwd))
  await queued(cwd, 2)
  // The kernel lock and the record come at one moment.
  renameSync(join(cwd, 'other'), path)
  const began = performance.now()
  const { code, holder } = await refused
  const took = performance.now() - began
  assert.equal(code, 'E_LOCK_CONTENTION')
  assert.equal((holder as Holder | undefined)?.pid, peer.child.pid)
  assert.ok(took < 3000, `${took} ms`)
})
