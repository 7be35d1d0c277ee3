// inspectLock: its reports. It changes nothing, and does not disturb other calls.
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { mkdirSync, readdirSync, readFileSync, statSync, utimesSync } from 'node:fs'
import { hostname, userInfo } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import {
  acquireLock,
  acquireLockSync,
  inspectLock,
  inspectLockSync,
  releaseLockSync,
  resolveLockPath,
} from 'reconcile-lock'
import { Peer, send } from '../support/child.mjs'
import { deadPid, directory, isLinux, isWindows, leave, readRecord } from '../support/directory.mjs'
import { knownFailure } from '../support/known-failure.mjs'
import { fewHandles, noCommand } from '../support/wine.mjs'
import { type Observed, Pollers } from './poller.mjs'

const INSPECTORS = 3
const SECONDS = 3
const inspections = (observed: Observed[]) => observed.reduce((sum, { count }) => sum + 2 * count, 0)

test(
  'concurrent inspectLock calls do not cause a refused acquire',
  knownFailure(fewHandles, async (t) => {
    const cwd = directory(t)
    const inspectors = await Pollers.start(t, INSPECTORS, 'inspect', cwd)
    let pairs = 0
    for (
      const end = performance.now() + SECONDS * 1000;
      performance.now() < end || pairs < 2000;
      pairs += 1
    ) {
      const lock = pairs % 2 === 0 ? acquireLockSync(cwd) : await acquireLock(cwd)
      assert.deepEqual([lock.isHeld(), lock.takenOver], [true, undefined])
      lock.releaseSync()
    }
    const observed = await inspectors.end()
    t.diagnostic(
      `${pairs} pairs beside ${inspections(observed)} inspections, ${JSON.stringify(observed[0]?.states)}`,
    )
    for (const { states, holders } of observed) {
      assert.ok((states.free ?? 0) > 0 && (states.held ?? 0) > 0, JSON.stringify(states))
      assert.equal(states.stale, undefined, 'the lock of a live holder was reported as stale')
      assert.deepEqual(holders, [process.pid])
    }
  }),
)

test(
  'inspectLock names the command line of the holder',
  knownFailure(noCommand, async (t) => {
    assert.match(String((await heldByPeer(t)).command), /peer\.mjs/)
  }),
)

test('inspectLock names the user of the holder', async (t) => {
  // Bun reports the user `unknown` if the environment does not name it.
  const user = isWindows ? userInfo().username : execFileSync('id', ['-un'], { encoding: 'utf8' }).trim()
  assert.equal((await heldByPeer(t)).user, user)
})

/** The status of a lock that another process holds. */
async function heldByPeer(t: TestContext) {
  const cwd = directory(t)
  const peer = new Peer(t)
  assert.equal((await peer.acquire(cwd)).ok, true)
  const status = inspectLockSync(cwd)
  assert.deepEqual(await inspectLock(cwd), status)
  return status
}

test(
  'acquireLock takes over despite concurrent inspectLock calls',
  knownFailure(fewHandles, async (t) => {
    const cwd = directory(t)
    const dead = deadPid()
    const inspectors = await Pollers.start(t, INSPECTORS, 'inspect', cwd)
    let takeovers = 0
    for (
      const end = performance.now() + SECONDS * 1000;
      performance.now() < end || takeovers < 100;
      takeovers += 1
    ) {
      leave(cwd, { pid: dead, createdAt: 1 })
      const lock = takeovers % 2 === 0 ? acquireLockSync(cwd) : await acquireLock(cwd)
      assert.equal(lock.takenOver?.holder?.pid, dead)
      assert.equal(lock.isHeld(), true)
      lock.releaseSync()
    }
    const observed = await inspectors.end()
    t.diagnostic(
      `${takeovers} take-overs beside ${inspections(observed)} inspections, ${JSON.stringify(observed[0]?.states)}`,
    )
    assert.ok(observed.some(({ states }) => (states.stale ?? 0) > 0))
    for (const { holders } of observed) assert.ok(holders.every((pid) => pid === dead || pid === process.pid))
  }),
)

test('inspectLock reports free, held and stale with the holder', async (t) => {
  const cwd = directory(t)
  const path = resolveLockPath(cwd)
  const free = { path, state: 'free', reason: 'there is no lock file' }
  assert.deepEqual([await inspectLock(cwd), inspectLockSync({ cwd })], [free, free])
  const peer = new Peer(t)
  await peer.acquire(cwd)
  const { pid = 0 } = peer.child
  const { createdAt, host, thread } = readRecord(path)
  const holder = { pid, createdAt, host, thread }
  assert.deepEqual([host, thread], [hostname(), 0])
  const since = new Date(Number(createdAt)).toISOString()
  // Tests above check them.
  const { command, user } = inspectLockSync(cwd)
  const described = { ...(command && { command }), ...(user && { user }) }
  const reason = `process ${pid} on ${host} has held it since ${since}`
  const held = { path, state: 'held', holder, reason, ...described }
  assert.deepEqual([await inspectLock({ cwd }), inspectLockSync(cwd)], [held, held])
  if (!isWindows) send(peer.child, 'SIGSTOP')
  assert.deepEqual(await inspectLock(cwd), held, 'a stopped process still holds the lock')
  await peer.ends('SIGKILL')
  const stale = { path, state: 'stale', holder, reason: `process ${pid} ended without releasing` }
  assert.deepEqual([await inspectLock(cwd), inspectLockSync(cwd)], [stale, stale])
})

test('createdAt defaults to the modification time of the file', (t) => {
  const cwd = directory(t)
  leave(cwd, { pid: process.ppid }, 3600)
  const { reason, holder } = inspectLockSync(cwd)
  assert.ok(Math.abs(Date.now() - 3_600_000 - (holder?.createdAt ?? 0)) < 60_000)
  assert.equal(
    reason,
    `process ${process.ppid} has held it since ${new Date(holder?.createdAt ?? 0).toISOString()}`,
  )
})

const dead = deadPid()

/** A state of the lock file, its `reason`, and how to create it. */
const states: [string, RegExp, (cwd: string) => unknown][] = [
  ['held', /^process \d+ on .+ has held it since \d{4}-\d\d-\d\dT[\d:.]+Z$/, (cwd) => acquireLockSync(cwd)],
  [
    'killed holder',
    /^process \d+ ended without releasing$/,
    async (cwd) => leave(cwd, { ...(await ownRecord(cwd)), pid: dead }),
  ],
  [
    'machine restarted',
    /^the machine was restarted, /,
    async (cwd) => leave(cwd, { ...(await ownRecord(cwd)), bootId: 'another' }),
  ],
  [
    'holder on another machine',
    /^process \d+ on ledger-2 may hold it: .+/,
    async (cwd) =>
      leave(cwd, { ...(await ownRecord(cwd)), bootId: 'another', host: 'ledger-2', fs: 'shared' }),
  ],
  [
    'pid reused by another process',
    /^process \d+ ended without releasing, and another process has its pid now$/,
    async (cwd) => leave(cwd, { ...(await ownRecord(cwd)), startTime: 1 }),
  ],
  [
    'live legacy holder',
    /^process \d+ has held it since 1970-01-01T00:00:00.001Z$/,
    (cwd) => leave(cwd, { pid: process.pid, createdAt: 1 }),
  ],
  ['dead legacy holder', /^process \d+ ended without releasing$/, (cwd) => leave(cwd, { pid: dead })],
  ['old empty file', /^the file was empty: .+/, (cwd) => leave(cwd, '')],
  ['new empty file', /^a process is creating it right now$/, (cwd) => leave(cwd, '', -1)],
  ['no record', /^the file did not contain a lock record$/, (cwd) => leave(cwd, 'hello')],
  [
    'longer than a record',
    /^the file did not contain a lock record$/,
    (cwd) => leave(cwd, 'x'.repeat(100_000)),
  ],
]
async function ownRecord(cwd: string): Promise<object> {
  const lock = await acquireLock(cwd)
  const record = readRecord(lock.path)
  await lock.release()
  return record
}

for (const [state, sentence, make] of states) {
  test(`inspectLock reports without changes: ${state}`, async (t) => {
    const cwd = directory(t)
    await make(cwd)
    const path = resolveLockPath(cwd)
    const bytes = readFileSync(path)
    // With relatime, a read updates an access time that is older than the last change.
    utimesSync(path, 0, statSync(path).mtimeMs / 1000)
    const snapshot = () => {
      const { atimeNs, atimeMs: _, atime: __, ...stat } = statSync(path, { bigint: true })
      return {
        stat,
        ...(isLinux && { atimeNs }),
        files: readdirSync(cwd),
        directory: statSync(cwd).mtimeMs,
      }
    }
    const before = snapshot()
    const { reason } = inspectLockSync(cwd)
    assert.match(reason, sentence)
    assert.doesNotMatch(reason, /\n|undefined|null|\.$/)
    for (let round = 0; round < 50; round += 1) assert.deepEqual(await inspectLock(cwd), inspectLockSync(cwd))
    assert.deepEqual(snapshot(), before)
    assert.deepEqual(readFileSync(path), bytes)
    releaseLockSync(cwd)
  })
}

test('inspectLock does not create a file', async (t) => {
  const cwd = directory(t)
  mkdirSync(join(cwd, 'sub'))
  for (const target of [cwd, join(cwd, 'sub'), join(cwd, 'missing')]) {
    assert.equal((await inspectLock(target)).state, 'free')
    assert.equal(inspectLockSync(target).state, 'free')
  }
  assert.deepEqual(readdirSync(cwd, { recursive: true }), ['sub'])
})
