import assert from 'node:assert/strict'
import { existsSync } from 'node:fs'
import { test } from 'node:test'
import { acquireLock, resolveLockPath } from 'reconcile-lock'
import { Peer } from '../support/child.mjs'
import { deadPid, directory, leave, MESSAGE, rejection } from '../support/directory.mjs'
import { median } from '../support/within.mjs'

const PROCESSES = 64
const ROUNDS = 50

test(`one of ${PROCESSES} concurrent processes acquires, the others are refused`, async (t) => {
  const peers = Array.from({ length: PROCESSES }, () => new Peer(t))
  const dead = deadPid()
  const states: [string, (cwd: string) => unknown][] = [
    ['free', () => {}],
    ['stale', (cwd) => leave(cwd, { pid: dead, createdAt: 1 })],
  ]
  for (const [state, prepare] of states) {
    await t.test(`on a ${state} lock`, async (t) => {
      for (let round = 0; round < ROUNDS; round += 1) {
        const cwd = directory(t)
        prepare(cwd)
        const at = Date.now() + 15
        const answers = await Promise.all(peers.map((peer) => peer.ask({ do: 'acquire', cwd, at })))
        const winners = peers.filter((_, index) => answers[index]?.ok)
        assert.equal(winners.length, 1, `round ${round}: ${winners.length} winners`)
        for (const answer of answers.filter((answer) => !answer.ok)) {
          assert.deepEqual([answer.code, answer.message], ['E_LOCK_CONTENTION', MESSAGE])
        }
        assert.equal((await winners[0]?.ask({ do: 'release', cwd }))?.ok, true)
        assert.equal(existsSync(resolveLockPath(cwd)), false)
      }
    })
  }
})

test('acquireLock takes over within 100 ms after SIGKILL', async (t) => {
  const cwd = directory(t)
  const times: number[] = []
  for (let round = 0; round < 10; round += 1) {
    const holder = new Peer(t)
    assert.equal((await holder.acquire(cwd)).ok, true)
    assert.equal((await rejection(acquireLock(cwd))).code, 'E_LOCK_CONTENTION')
    await holder.ends('SIGKILL')
    const before = performance.now()
    const lock = await acquireLock(cwd)
    times.push(performance.now() - before)
    assert.equal(lock.takenOver?.holder?.pid, holder.child.pid)
    await lock.release()
  }
  assert.ok(median(times) < 100, times.join(' '))
})

test('the native and the legacy lock exclude each other', async (t) => {
  const cwd = directory(t)
  const [legacyPeer, nativePeer] = [new Peer(t), new Peer(t)]
  for (const [first, second] of [
    [
      { peer: legacyPeer, lock: 'legacy' },
      { peer: nativePeer, lock: 'native' },
    ],
    [
      { peer: nativePeer, lock: 'native' },
      { peer: legacyPeer, lock: 'legacy' },
    ],
  ] as const) {
    assert.equal((await first.peer.acquire(cwd, first.lock)).ok, true)
    const refused = await second.peer.acquire(cwd, second.lock)
    assert.deepEqual([refused.ok, refused.message, refused.code], [false, MESSAGE, 'E_LOCK_CONTENTION'])
    assert.equal((await first.peer.ask({ do: 'release', lock: first.lock, cwd })).ok, true)
    assert.equal(existsSync(resolveLockPath(cwd)), false)
  }
  await legacyPeer.acquire(cwd, 'legacy')
  await legacyPeer.ends('SIGKILL')
  assert.equal((await nativePeer.acquire(cwd)).ok, true, 'the native lock takes over from the legacy lock')
  await nativePeer.ends('SIGKILL')
  const third = new Peer(t)
  assert.equal(
    (await third.acquire(cwd, 'legacy')).ok,
    true,
    'the legacy lock takes over from the native lock',
  )
})
