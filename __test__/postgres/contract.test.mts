// The behaviour that locks on files and on PostgreSQL share.
import assert from 'node:assert/strict'
import { subscribe, unsubscribe } from 'node:diagnostics_channel'
import { getEventListeners } from 'node:events'
import { mkdtempSync, realpathSync, rmSync } from 'node:fs'
import { hostname, tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, type TestContext, test } from 'node:test'
import { setImmediate } from 'node:timers/promises'
import * as files from 'reconcile-lock'
import * as databases from 'reconcile-lock/postgres'
import { MESSAGE, rejection } from '../support/directory.mjs'
import { sleep, until } from '../support/time.mjs'
import { type Asked, type Backend, BackendProcess, backendFor, close, taker } from './backend.mjs'
import { Postgres } from './postgres.mjs'
import { quickest } from './quickest.mjs'

let postgres: Postgres
const directory = mkdtempSync(join(realpathSync(tmpdir()), 'reconcile-contract-'))
before(async () => {
  postgres = await Postgres.start()
})
after(async () => {
  rmSync(directory, { recursive: true })
  await postgres.stop()
})

test('an error is an instance of both LockError classes', () => {
  for (const { LockError } of [files, databases]) {
    const error = new LockError('lost', { code: 'E_LOCK_LOST', path: 'path', recoverable: false })
    assert.ok(error instanceof files.LockError && error instanceof databases.LockError)
    assert.equal(LockError.name, 'LockError')
  }
})

interface Place {
  locks: Backend
  /** The lock name of this test. */
  name: string
  peer(): BackendProcess
  take(name: string): Promise<unknown>
}

let count = 0
function place(t: TestContext, kind: string): Place {
  const where = kind === 'file' ? directory : postgres.url()
  const locks = backendFor(kind, where)
  t.after(() => close(locks))
  count += 1
  const superuser = (text: string) => postgres.sql(text, 'ledger', 'postgres')
  return {
    locks,
    name: `lock ${count} ü`,
    peer: () => new BackendProcess(t, kind, where),
    take: taker(kind, where, superuser),
  }
}

/** Resolves when a later call of this process is refused and waits. */
async function contention(t: TestContext): Promise<void> {
  let isContended = false
  const listen = () => {
    isContended = true
  }
  subscribe('reconcile-lock:contended', listen)
  t.after(() => unsubscribe('reconcile-lock:contended', listen))
  await until(() => isContended, 'a call waits')
}

/** The version of the server does not affect locks on files. */
const kinds = process.env.RECONCILE_TEST_POSTGRES_BIN ? ['postgres'] : ['file', 'postgres']
for (const kind of kinds) {
  const both = (name: string, run: (t: TestContext, place: Place) => Promise<unknown>) =>
    test(`${kind}: ${name}`, async (t) => {
      await run(t, place(t, kind))
    })

  both('a lock excludes other calls until its release', async (_, { locks, name }) => {
    const lock = await locks.acquireLock({ name })
    assert.deepEqual([lock.isHeld(), lock.takenOver], [true, undefined])
    assert.equal((await rejection(locks.acquireLock({ name }))).code, 'E_LOCK_CONTENTION')
    await lock.release()
    assert.equal(lock.isHeld(), false)
    const again = await locks.acquireLock({ name })
    assert.equal(again.takenOver, undefined)
    assert.deepEqual((await rejection(locks.acquireLock({ name }))).holder, again.holder)
    await again.release()
  })

  both('a refusal has the message, code, path and holder', async (_, { locks, name, peer }) => {
    const other = peer()
    const { holder } = await other.asks('acquire', { name })
    assert.equal(holder?.pid, other.child.pid)
    assert.equal(holder?.host, hostname())
    for (const message of [undefined, 'Token refresh already in progress', '', 'ü 🔒 end']) {
      const error = await rejection(locks.acquireLock({ name, message }))
      assert.ok(error instanceof files.LockError)
      assert.deepEqual(
        [error.name, error.message, error.code],
        ['LockError', message ?? MESSAGE, 'E_LOCK_CONTENTION'],
      )
      assert.equal(error.recoverable, true)
      assert.deepEqual(error.holder, holder)
      assert.equal(error.path, (await locks.inspectLock({ name })).path)
    }
  })

  both('one of many concurrent calls acquires', async (_, { locks, name }) => {
    const outcomes = await Promise.allSettled(Array.from({ length: 30 }, () => locks.acquireLock({ name })))
    const refused = outcomes.filter((outcome) => outcome.status === 'rejected').map(({ reason }) => reason)
    assert.equal(refused.length, 29)
    for (const error of refused) assert.deepEqual([error.code, error.message], ['E_LOCK_CONTENTION', MESSAGE])
    for (const outcome of outcomes) if (outcome.status === 'fulfilled') await outcome.value.release()
  })

  both('a timeout ends within 250 ms after its time', async (_, { locks, name }) => {
    const lock = await locks.acquireLock({ name })
    for (const timeout of [0, 1, 40, 300]) {
      const late = await quickest(250, async () => {
        const start = performance.now()
        assert.equal((await rejection(locks.acquireLock({ name, timeout }))).code, 'E_LOCK_CONTENTION')
        const took = performance.now() - start
        assert.ok(took >= timeout, `${timeout} ms: ${took}`)
        return took - timeout
      })
      assert.ok(late < 250, `${timeout} ms: ${late} ms late`)
    }
    await lock.release()
  })

  both('a waiter acquires when the holder releases', async (t, { locks, name, peer }) => {
    const other = peer()
    const took = await quickest(250, async () => {
      await other.asks('acquire', { name })
      const isWaiting = contention(t)
      const waiting = locks.acquireLock({ name, timeout: Number.POSITIVE_INFINITY })
      await isWaiting
      await other.asks('release', { name })
      const start = performance.now()
      const lock = await waiting
      assert.equal(lock.takenOver, undefined)
      await lock.release()
      return performance.now() - start
    })
    assert.ok(took < 250, `${took} ms`)
  })

  both('onWait reports the holder immediately and every second', async (_, { locks, name, peer }) => {
    const other = peer()
    const { holder } = await other.asks('acquire', { name })
    const statuses: files.WaitStatus[] = []
    const abort = new AbortController()
    const onWait = (status: files.WaitStatus) => statuses.push(status)
    const waiting = rejection(locks.acquireLock({ name, timeout: 60_000, signal: abort.signal, onWait }))
    await until(() => statuses.length === 3, 'onWait is called three times')
    abort.abort()
    await waiting
    assert.equal(statuses.length, 3)
    for (const [index, status] of statuses.entries()) {
      assert.deepEqual(status.holder, holder)
      assert.equal(status.path, (await locks.inspectLock({ name })).path)
      assert.ok(status.waited >= index * 1000 && status.waited < index * 1000 + 900, `${status.waited} ms`)
    }
    const failure = new Error('mine')
    const failing = () => {
      throw failure
    }
    const failed = locks.acquireLock({ name, timeout: 60_000, onWait: failing })
    assert.equal(await rejection(failed), failure)
    assert.equal((await locks.inspectLock({ name })).state, 'held')
  })

  both('an abort rejects a waiting call with its reason', async (t, { locks, name }) => {
    const reason = new Error('enough')
    assert.equal(await rejection(locks.acquireLock({ name, signal: AbortSignal.abort(reason) })), reason)
    const lock = await locks.acquireLock({ name })
    const took = await quickest(100, async () => {
      const abort = new AbortController()
      const mine = () => {}
      abort.signal.onabort = mine
      const isWaiting = contention(t)
      const waiting = rejection(locks.acquireLock({ name, timeout: 60_000, signal: abort.signal }))
      await isWaiting
      const start = performance.now()
      abort.abort(reason)
      assert.equal(await waiting, reason)
      const ended = performance.now()
      assert.equal(abort.signal.onabort, mine)
      return ended - start
    })
    assert.ok(took < 100, `${took} ms`)
    await lock.release()
    await (await locks.acquireLock({ name })).release()
  })

  both('acquireLock removes its listeners from the signal', async (_, { locks, name }) => {
    const { signal } = new AbortController()
    const lock = await locks.acquireLock({ name, signal })
    await rejection(locks.acquireLock({ name, signal }))
    assert.equal(getEventListeners(signal, 'abort').length, 0)
    await lock.release()
  })

  both('an abort during the grant leaves the lock free', async (t, { locks, name }) => {
    for (let round = 0; round < 30; round += 1) {
      const lock = await locks.acquireLock({ name })
      const isWaiting = contention(t)
      const abort = new AbortController()
      const waiting = locks.acquireLock({ name, timeout: 5000, signal: abort.signal })
      const outcome = waiting.then(
        (won) => won,
        (error) => error,
      )
      await isWaiting
      const released = lock.release()
      if (round % 3 > 0) await sleep(round % 3, 'the abort comes a moment after the release')
      abort.abort()
      await released
      const won = await outcome
      if (!(won instanceof Error)) await won.release()
      const next = await locks.acquireLock({ name, timeout: 2000 })
      assert.equal(next.takenOver, undefined)
      await next.release()
    }
  })

  both('a second release and a releaseLock elsewhere do nothing', async (_, where) => {
    const { locks, name, peer } = where
    const lock = await locks.acquireLock({ name })
    await Promise.all([lock.release(), lock.release()])
    await lock.release()
    const other = peer()
    await other.asks('acquire', { name })
    await locks.releaseLock({ name })
    await lock.release()
    assert.equal((await locks.inspectLock({ name })).state, 'held')
    await other.asks('release', { name })
    await locks.acquireLock({ name })
    await locks.releaseLock({ name })
    assert.equal((await locks.inspectLock({ name })).state, 'free')
  })

  both('withLock holds the lock until fn settles', async (_, { locks, name }) => {
    const states: string[] = []
    const record = async () => void states.push((await locks.inspectLock({ name })).state)
    const result = locks.withLock(
      async (lock) => {
        await record()
        return lock.isHeld() && 42
      },
      { name },
    )
    assert.equal(await result, 42)
    const failure = new Error('mine')
    const failing = locks.withLock(
      async () => {
        await record()
        throw failure
      },
      { name },
    )
    assert.equal(await rejection(failing), failure)
    await record()
    assert.deepEqual(states, ['held', 'held', 'free'])
    const noFunction = locks.withLock(5 as never, { name })
    assert.equal((await rejection(noFunction)).code, 'ERR_INVALID_ARG_TYPE')
  })

  both('withLock holds several locks, or none', async (_, { locks, name, peer }) => {
    const names = [`${name}-b`, `${name}-a`]
    const all = () => Promise.all(names.map((each) => locks.inspectLock({ name: each })))
    const states = async () => (await all()).map(({ state }) => state)
    const held = await locks.withLocks(
      async (given) => [await states(), given.map(({ path }) => path)],
      names,
    )
    assert.deepEqual(held, [['held', 'held'], (await all()).map(({ path }) => path)])
    const other = peer()
    await other.asks('acquire', { name: names[0] })
    const error = await rejection(locks.withLocks(() => assert.fail('fn was called'), names, { timeout: 50 }))
    assert.equal(error.code, 'E_LOCK_CONTENTION')
    assert.deepEqual(await states(), ['held', 'free'])
    const twice = await rejection(locks.withLocks(() => {}, [name, name]))
    assert.equal(twice.code, 'ERR_INVALID_ARG_VALUE')
    assert.equal((await rejection(locks.withLocks(() => {}, []))).code, 'ERR_INVALID_ARG_VALUE')
    await other.asks('release', { name: names[0] })
  })

  both('await using releases the lock', async (_, { locks, name }) => {
    {
      await using lock = await locks.acquireLock({ name })
      assert.equal(lock.isHeld(), true)
    }
    assert.equal((await locks.inspectLock({ name })).state, 'free')
  })

  for (const how of ['SIGKILL', 'SIGTERM', 'exit', 'throw', 'end'])
    both(`a holder that ends by ${how} frees the lock`, async (_, { locks, name, peer }) => {
      const other = peer()
      await other.asks('acquire', { name })
      await other.ends(how)
      const lock = await locks.acquireLock({ name })
      const isReported = how.startsWith('SIG') || (kind === 'postgres' && how !== 'end')
      assert.equal(lock.takenOver?.holder?.pid, isReported ? other.child.pid : undefined)
      if (isReported) assert.match(lock.takenOver?.reason ?? '', /^process \d+ ended without releasing/)
      await lock.release()
    })

  both('breakLock removes the stale lock of a killed holder', async (_, { locks, name, peer }) => {
    const other = peer()
    const { holder } = await other.asks('acquire', { name })
    const held = await locks.inspectLock({ name })
    assert.deepEqual([held.state, held.holder], ['held', holder])
    assert.match(held.reason, new RegExp(`^process ${holder?.pid} on ${hostname()} has held it since 20`))
    const refused = await rejection(locks.breakLock({ name, message: 'busy' }))
    assert.deepEqual([refused.code, refused.message, refused.holder], ['E_LOCK_CONTENTION', 'busy', holder])
    await other.ends('SIGKILL')
    await until(async () => (await locks.inspectLock({ name })).state === 'stale', 'the lock is stale')
    assert.deepEqual((await locks.inspectLock({ name })).holder, holder)
    assert.deepEqual([await locks.breakLock({ name }), await locks.breakLock({ name })], [true, false])
    assert.equal((await locks.inspectLock({ name })).state, 'free')
    const lock = await locks.acquireLock({ name })
    assert.equal(lock.takenOver, undefined)
    await lock.release()
  })

  both('breakLock with force ends a held lock', async (_, { locks, name }) => {
    const lock = await locks.acquireLock({ name })
    assert.equal(await locks.breakLock({ name, force: true }), true)
    const next = await locks.acquireLock({ name })
    await until(() => !lock.isHeld(), 'the holder detects the loss')
    const error = await rejection(lock.release())
    assert.deepEqual([error.code, error.recoverable], ['E_LOCK_LOST', false])
    assert.match(error.message, /^lost the lock .+ while holding it: /)
    await lock.release()
    assert.equal(next.isHeld(), true)
    await next.release()
  })

  both('a lock without its file or session is lost', async (_, { locks, name, take }) => {
    const lock = await locks.acquireLock({ name })
    await take(name)
    await until(() => !lock.isHeld(), 'the holder detects the loss')
    assert.equal((await rejection(lock.release())).code, 'E_LOCK_LOST')
    await (await locks.acquireLock({ name })).release()
  })

  both('releaseLock releases a held lock before a lost one', async (_, { locks, name, take }) => {
    const lost = await locks.acquireLock({ name })
    await take(name)
    await until(() => !lost.isHeld(), 'the holder detects the loss')
    const held = await locks.acquireLock({ name })
    await locks.releaseLock({ name })
    assert.equal(held.isHeld(), false)
    assert.equal((await locks.inspectLock({ name })).state, 'free')
    assert.equal((await rejection(locks.releaseLock({ name }))).code, 'E_LOCK_LOST')
    await locks.releaseLock({ name })
    await lost.release()
  })

  both('a release during a release is the same promise', async (_, { locks, name, take }) => {
    const lock = await locks.acquireLock({ name })
    const first = lock.release()
    assert.equal(lock.release(), first)
    assert.equal(await first, undefined)
    await lock.release()
    const lost = await locks.acquireLock({ name })
    await take(name)
    await until(() => !lost.isHeld(), 'the holder detects the loss')
    const failing = lost.release()
    assert.equal(lost.release(), failing)
    assert.equal((await rejection(failing)).code, 'E_LOCK_LOST')
    await lost.release()
  })

  both('inspectLock disturbs no acquire', async (_, { locks, name }) => {
    let isOver = false
    const inspectors = Array.from({ length: 3 }, async () => {
      for (; !isOver; await setImmediate())
        assert.notEqual((await locks.inspectLock({ name })).state, 'stale')
    })
    for (let round = 0; round < 200; round += 1) await (await locks.acquireLock({ name })).release()
    isOver = true
    await Promise.all(inspectors)
  })

  both('invalid arguments are refused', async (_, { locks }) => {
    const wrong: [Asked, string][] = [
      [{ name: '' }, 'ERR_INVALID_ARG_VALUE'],
      [{ name: 'a\0b' }, 'ERR_INVALID_ARG_VALUE'],
      [{ name: '\ud800' }, 'ERR_INVALID_ARG_VALUE'],
      [{ name: 5 as never }, 'ERR_INVALID_ARG_TYPE'],
      [{ message: 1 as never }, 'ERR_INVALID_ARG_TYPE'],
      [{ timeout: -1 }, 'ERR_OUT_OF_RANGE'],
      [{ timeout: Number.NaN }, 'ERR_OUT_OF_RANGE'],
      [{ timeout: '1' as never }, 'ERR_INVALID_ARG_TYPE'],
      [{ timeout: null as never }, 'ERR_INVALID_ARG_TYPE'],
      [{ signal: {} as never }, 'ERR_INVALID_ARG_TYPE'],
      [{ onWait: 1 as never }, 'ERR_INVALID_ARG_TYPE'],
      [{ retries: 1 } as never, 'ERR_INVALID_ARG_VALUE'],
      [{ force: true }, 'ERR_INVALID_ARG_VALUE'],
    ]
    for (const [asked, code] of wrong) {
      const error = await rejection(locks.acquireLock(asked))
      assert.equal(error.code, code, JSON.stringify(asked))
      assert.ok(error instanceof (code === 'ERR_OUT_OF_RANGE' ? RangeError : TypeError))
    }
    assert.equal((await rejection(locks.breakLock({ force: 1 as never }))).code, 'ERR_INVALID_ARG_TYPE')
  })

  both('the diagnostics channels publish each event', async (t, { locks, name, peer }) => {
    const events: { event: string; pid?: number | undefined }[] = []
    const { path } = await locks.inspectLock({ name })
    const abort = new AbortController()
    for (const event of ['acquired', 'contended', 'waiting', 'takenover', 'released', 'lost'] as const) {
      const listen = (message: unknown) => {
        const published = message as { path: string; at: number; holder?: files.Holder; from?: files.Holder }
        if (published.path !== path) return
        assert.ok(Math.abs(Date.now() - published.at) < 5000)
        events.push({ event, pid: (published.from ?? published.holder)?.pid })
        if (event === 'waiting') abort.abort()
      }
      subscribe(`reconcile-lock:${event}`, listen)
      t.after(() => unsubscribe(`reconcile-lock:${event}`, listen))
    }
    const other = peer()
    await other.asks('acquire', { name })
    await rejection(locks.acquireLock({ name, timeout: 60_000, signal: abort.signal }))
    await other.ends('SIGKILL')
    const lock = await locks.acquireLock({ name })
    await lock.release()
    const lost = await locks.acquireLock({ name })
    await locks.breakLock({ name, force: true })
    await rejection(lost.release())
    const [theirs, mine] = [other.child.pid, process.pid]
    assert.deepEqual(events, [
      { event: 'contended', pid: theirs },
      { event: 'waiting', pid: theirs },
      { event: 'takenover', pid: theirs },
      { event: 'acquired', pid: mine },
      { event: 'released', pid: mine },
      { event: 'acquired', pid: mine },
      { event: 'lost', pid: mine },
    ])
  })
}
