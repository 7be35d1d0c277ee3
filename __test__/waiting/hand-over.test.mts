// Hand-over: waiters acquire soon, however the holder loses the lock.
import assert from 'node:assert/strict'
import { type ChildProcess, spawn } from 'node:child_process'
import {
  closeSync,
  existsSync,
  fstatSync,
  mkdirSync,
  openSync,
  renameSync,
  rmSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
  writeSync,
} from 'node:fs'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { acquireLock, acquireLockSync, breakLock, type Lock, resolveLockPath } from 'reconcile-lock'
import { Peer, send } from '../support/child.mjs'
import { deadPid, directory, rejection, withoutSignals } from '../support/directory.mjs'
import { type KnownFailure, knownFailure } from '../support/known-failure.mjs'
import { container, killContainer, withoutNamespaces } from '../support/namespace.mjs'
import { sleep, until } from '../support/time.mjs'
import { now, type Outcome, processState, ThreadWaiter, Waiter } from '../support/waiter.mjs'
import { asleep, begin } from '../support/waits.mjs'
import { noDeletion, noLinks } from '../support/wine.mjs'
import { within } from '../support/within.mjs'

/** Without an event a waiter rechecks within a quarter of a second, and is this quick only by chance. */
const AT_ONCE = 60
const ROUNDS = 6
/** The limit if a busy machine makes rounds slow. */
const MAX_ROUNDS = 24
/** So many more quick rounds than slow ones, which chance rarely gives. */
const LEAD = 2
/** Half of the timeout of the waiters. */
const LATE = 10_000

/** Acquires a lock for a holder; returns a function that ends it, and the `takenOver.reason` of the next holder. */
type SetUp = (cwd: string, t: TestContext) => Promise<{ end: () => unknown; reason?: RegExp }>

const ended = (pid: number | undefined) => new RegExp(`^process ${pid} .*ended without releasing`)

async function held(t: TestContext, cwd: string, lock: 'native' | 'legacy' = 'native'): Promise<Peer> {
  const peer = new Peer(t)
  assert.equal((await peer.acquire(cwd, lock)).ok, true)
  return peer
}

/** Starts a program that its parent does not reap, and returns its pid. */
async function unreaped(t: TestContext, program: string[]): Promise<{ pid: number; parent: ChildProcess }> {
  // The shell starts it and becomes a program that never waits.
  const parent = spawn('sh', ['-c', '"$@" & echo $!; exec sleep 60', 'sh', ...program], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  t.after(() => parent.kill('SIGKILL'))
  const pid = Number(await new Promise((resolve) => parent.stdout.once('data', resolve)))
  t.after(() => process.kill(pid, 'SIGKILL'))
  return { pid, parent }
}

const HOLDER = `
  require(process.argv[1]).acquireLockSync(process.argv[2])
  setInterval(() => {}, 1000)`

/** Overwrites a record in one call, so that no process reads a part of either. */
function overwrite(path: string, record: object): void {
  const file = openSync(path, 'r+')
  writeSync(file, JSON.stringify(record).padEnd(fstatSync(file).size), 0)
  closeSync(file)
  utimesSync(path, 1, 1)
}

const ways: Record<string, SetUp> = {
  'this process releases': async (cwd) => {
    const lock = await acquireLock(cwd)
    return { end: () => lock.release() }
  },
  'this process releases synchronously': async (cwd) => {
    const lock = acquireLockSync(cwd)
    return { end: () => lock.releaseSync() }
  },
  'another process releases': async (cwd, t) => {
    const peer = await held(t, cwd)
    return { end: () => peer.ask({ do: 'release', cwd }) }
  },
  'a thread releases': async (cwd, t) => {
    const thread = new ThreadWaiter(t)
    assert.equal((await thread.wait({ cwd })).ok, true)
    return { end: () => thread.release(cwd) }
  },
  'a thread is terminated': async (cwd, t) => {
    const thread = new ThreadWaiter(t)
    assert.equal((await thread.wait({ cwd })).ok, true)
    return { end: () => thread.worker.terminate() }
  },
  'a process is killed': async (cwd, t) => {
    const peer = await held(t, cwd)
    return { end: () => peer.child.kill('SIGKILL'), reason: ended(peer.child.pid) }
  },
  'a process exits with the lock': async (cwd, t) => {
    const peer = await held(t, cwd)
    return { end: () => peer.ends({ do: 'exit', cwd }) }
  },
  'a process becomes a zombie': async (cwd, t) => {
    const main = new URL('../../../dist/index.js', import.meta.url).pathname
    const { pid } = await unreaped(t, [process.execPath, '-e', HOLDER, main, cwd])
    await until(() => existsSync(resolveLockPath(cwd)), 'the process holds the lock')
    const end = async () => {
      process.kill(pid, 'SIGKILL')
      await until(() => processState(pid) === 'Z', 'the process is a zombie')
    }
    return { end, reason: ended(pid) }
  },
  'a legacy process releases': async (cwd, t) => {
    const peer = await held(t, cwd, 'legacy')
    return { end: () => peer.ask({ do: 'release', lock: 'legacy', cwd }) }
  },
  'a legacy process is killed': async (cwd, t) => {
    const peer = await held(t, cwd, 'legacy')
    return { end: () => peer.child.kill('SIGKILL'), reason: ended(peer.child.pid) }
  },
  'the file is removed': async (cwd, t) => {
    await held(t, cwd)
    return { end: () => rmSync(resolveLockPath(cwd)) }
  },
  'the lock is broken by force': async (cwd, t) => {
    await held(t, cwd)
    return { end: () => breakLock({ cwd, force: true }) }
  },
  'another file replaces the lock file': async (cwd, t) => {
    await held(t, cwd)
    const other = join(cwd, 'other')
    writeFileSync(other, 'no record')
    return {
      end: () => renameSync(other, resolveLockPath(cwd)),
      reason: /^the file did not contain a lock record/,
    }
  },
  'another record replaces the record': async (cwd, t) => {
    await held(t, cwd, 'legacy')
    const pid = deadPid()
    return { end: () => overwrite(resolveLockPath(cwd), { pid, createdAt: 1 }), reason: ended(pid) }
  },
  'pid 1 of a namespace releases': async (cwd, t) => {
    const peer = container(t)
    assert.equal((await peer.acquire(cwd)).ok, true)
    return { end: () => peer.ask({ do: 'release', cwd }) }
  },
  'pid 1 of a namespace is killed': async (cwd, t) => {
    const peer = container(t)
    assert.equal((await peer.acquire(cwd)).ok, true)
    return { end: () => killContainer(peer), reason: ended(1) }
  },
}

/** A waiter that opened the file before its release can find it at the path after that, with its record. */
const sometimes: KnownFailure = { ...noDeletion, sometimes: true }

const marks: Record<string, KnownFailure> = {
  'this process releases': sometimes,
  'this process releases synchronously': sometimes,
  'another process releases': sometimes,
  'a thread releases': sometimes,
  'a process becomes a zombie': {
    runtime: 'deno',
    why: 'the process that becomes a zombie does not start in Deno',
  },
  'the file is removed': noDeletion,
  'the lock is broken by force': noDeletion,
  'another file replaces the lock file': noDeletion,
}

for (const [how, setUp] of Object.entries(ways)) {
  const skip = how.includes('zombie') ? withoutSignals : how.includes('namespace') && withoutNamespaces
  test(
    `waiters acquire when ${how}`,
    { skip },
    knownFailure(marks[how] ?? [], async (t) => {
      const sync = new Waiter(t)
      const latencies: number[] = []
      const lead = () => 2 * latencies.filter((latency) => latency < AT_ONCE).length - latencies.length
      for (let round = 0; round < ROUNDS || (round < MAX_ROUNDS && lead() < LEAD); round += 1) {
        const cwd = directory(t)
        const { end, reason } = await setUp(cwd, t)
        // One waiter is in this process, the other one blocks its own process.
        const first = acquireLock({ cwd, timeout: 20_000 }).then((lock) => ({ lock, at: now() }))
        // A round that fails before does not await it.
        first.catch(() => {})
        const second = (await sync.begin({ cwd, timeout: 20_000, form: 'sync' })).outcome
        const check = ({ takenOver }: { takenOver?: Outcome['takenOver'] | Lock['takenOver'] }) => {
          if (reason) assert.match(String(takenOver?.reason), reason)
          else assert.equal(takenOver, undefined)
        }
        await Promise.all([asleep(), asleep(sync.pid)])
        // Soon, so that a recheck without an event would come later; at another moment in each round.
        await sleep(round * 5, 'each round releases at another moment')
        const before = now()
        const released = end()
        const winner = await Promise.race([first, second])
        if ('lock' in winner) {
          check(winner.lock)
          latencies.push(winner.at - before)
          await winner.lock.release()
          assert.equal((await second).ok, true)
          await sync.release(cwd)
        } else {
          assert.equal(winner.ok, true)
          check(winner)
          latencies.push(winner.at - before)
          await sync.release(cwd)
          await (await first).lock.release()
        }
        assert.equal(existsSync(resolveLockPath(cwd)), false)
        await released
      }
      const shown = latencies.map((latency) => latency.toFixed(1)).join(' ')
      t.diagnostic(`${shown} ms`)
      assert.ok(lead() >= LEAD, `${shown} ms`)
      assert.ok(Math.max(...latencies) < LATE, `${shown} ms`)
    }),
  )
}

test('a waiter acquires after the directory is replaced', async (t) => {
  const parent = directory(t)
  const cwd = join(parent, 'a')
  mkdirSync(cwd)
  const holder = await acquireLock(cwd)
  const { waiting } = await begin({ cwd })
  await asleep()
  const before = performance.now()
  renameSync(cwd, join(parent, 'b'))
  mkdirSync(cwd)
  const lock = await waiting
  assert.ok(performance.now() - before < LATE, `${performance.now() - before} ms`)
  assert.equal(lock.takenOver, undefined)
  await lock.release()
  assert.equal((await rejection(holder.release())).code, 'E_LOCK_LOST')
})

test('every waiter rejects with ENOENT if the directory is gone', async (t) => {
  const parent = directory(t)
  const cwd = join(parent, 'a')
  mkdirSync(cwd)
  const holder = await acquireLock(cwd)
  const waits = await Promise.all(Array.from({ length: 3 }, () => begin({ cwd })))
  await asleep()
  renameSync(cwd, join(parent, 'b'))
  for (const { waiting } of waits) {
    const { code, syscall } = await rejection(waiting)
    assert.deepEqual([code, syscall], ['ENOENT', 'open'])
  }
  await rejection(holder.release())
})

test(
  'every waiter rejects if the file becomes a symbolic link',
  knownFailure(noLinks, async (t) => {
    const cwd = directory(t)
    const path = resolveLockPath(cwd)
    const holder = await acquireLock(cwd)
    const waits = await Promise.all(Array.from({ length: 3 }, () => begin({ cwd })))
    const waiters = [new Waiter(t), new Waiter(t)] as const
    const others = await Promise.all([
      waiters[0].begin({ cwd, form: 'async', timeout: 20_000 }),
      waiters[1].begin({ cwd, form: 'sync', timeout: 20_000 }),
    ])
    await Promise.all([asleep(), ...waiters.map(({ pid }) => asleep(pid))])
    symlinkSync('/nowhere', join(cwd, 'link'))
    const before = now()
    renameSync(join(cwd, 'link'), path)
    for (const { waiting } of waits) {
      const error = await rejection(waiting)
      assert.deepEqual([error.code, error.path], ['E_LOCK_SYMLINK', path])
    }
    for (const { outcome } of others) {
      const { code, at } = await outcome
      assert.equal(code, 'E_LOCK_SYMLINK')
      assert.ok(at - before < LATE, `${at - before} ms`)
    }
    assert.equal((await rejection(holder.release())).code, 'E_LOCK_LOST')
  }),
)

/** Kills the holder of `count` locks; the last waiter of this process acquires within 800 ms. */
const takeOverAll = (t: TestContext, count: number, start: () => Peer, end: (peer: Peer) => unknown) =>
  within(800, async () => {
    const [root, elsewhere] = [directory(t), directory(t)]
    const peer = start()
    const directories = Array.from({ length: count }, (_, index) => join(root, String(index)))
    for (const cwd of directories) {
      mkdirSync(cwd)
      assert.equal((await peer.acquire(cwd)).ok, true)
    }
    const other = acquireLockSync(elsewhere)
    const waits = await Promise.all(directories.map((cwd) => begin({ cwd, timeout: 2 * LATE })))
    await asleep(process.pid)
    const killed = performance.now()
    end(peer)
    const refused = rejection(acquireLock({ cwd: elsewhere, timeout: 100 })).then(
      () => performance.now() - killed,
    )
    const locks = await Promise.all(waits.map(({ waiting }) => waiting))
    const last = performance.now() - killed
    t.diagnostic(`the last of ${count} after ${last} ms, the refusal after ${await refused} ms`)
    for (const lock of locks)
      assert.match(lock.takenOver?.reason ?? '', /^process \d+ .*ended without releasing/)
    await Promise.all([...locks, other].map((lock) => lock.release()))
    return Math.max(last, await refused)
  })

test('200 take-overs delay neither each other nor another timeout', (t) =>
  // In sequence, each with its pause for a legacy process, they would take a second.
  takeOverAll(
    t,
    200,
    () => new Peer(t),
    ({ child }) => child.kill('SIGKILL'),
  ))

test('800 take-overs from a namespace do not delay each other', { skip: withoutNamespaces }, (t) =>
  // In sequence in the few checks that their events start together, they would take a second.
  takeOverAll(t, 800, () => container(t), killContainer),
)

test('a waiter times out while the holder is stopped', { skip: withoutSignals }, async (t) => {
  const cwd = directory(t)
  const peer = await held(t, cwd)
  send(peer.child, 'SIGSTOP')
  await until(() => processState(peer.child.pid ?? 0) === 'T', 'the process is stopped')
  const error = await rejection(acquireLock({ cwd, timeout: 700 }))
  assert.equal((error.holder as { pid: number }).pid, peer.child.pid)
  const waiting = acquireLock({ cwd, timeout: 20_000 })
  send(peer.child, 'SIGCONT')
  await peer.ask({ do: 'release', cwd })
  await (await waiting).release()
})
