// Shared mode: any number of readers, or one owner.
import assert from 'node:assert/strict'
import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdirSync, readdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import {
  type AcquireOptions,
  acquireLock,
  acquireLockSync,
  breakLock,
  inspectLock,
  inspectLockSync,
  releaseLock,
  releaseLockSync,
  withLock,
} from 'reconcile-lock'
import { Peer } from '../support/child.mjs'
import { deadPid, directory, isLinux, rejection } from '../support/directory.mjs'
import { knownFailure } from '../support/known-failure.mjs'
import { until } from '../support/time.mjs'
import { noDeletion } from '../support/wine.mjs'
import { within } from '../support/within.mjs'

const FORMS = {
  acquireLock,
  acquireLockSync: async (options: AcquireOptions) => acquireLockSync(options),
}

function options(t: TestContext) {
  const cwd = directory(t)
  const file = join(cwd, 'l')
  return { cwd, one: { file }, shared: { file, shared: true } }
}

/** A process that holds the lock. */
async function held(t: TestContext, { file, ...more }: AcquireOptions & { file: string }) {
  const peer = new Peer(t)
  const { ok, message } = await peer.ask({
    do: 'acquire',
    cwd: dirname(file),
    options: { file: 'l', ...more },
  })
  assert.equal(ok, true, message)
  return { peer }
}

for (const [form, acquire] of Object.entries(FORMS)) {
  test(`${form} lets readers of several processes hold the lock`, async (t) => {
    const { cwd, one, shared } = options(t)
    await held(t, shared)
    const locks = [await acquire(shared), await acquire(shared)]
    for (const { path, holder, takenOver } of locks)
      assert.deepEqual([path, holder.pid, takenOver], [one.file, process.pid, undefined])
    const error = await rejection(acquire(one))
    assert.deepEqual([error.code, error.path], ['E_LOCK_CONTENTION', one.file])
    assert.match(String(error.reason), /^this process holds it in shared mode: release it first$/)
    assert.deepEqual(readdirSync(cwd), ['l.readers'])
    for (const lock of locks) await lock.release()
    assert.equal(locks[0]?.isHeld(), false)
  })

  test(`${form} refuses a reader while another process owns the lock`, async (t) => {
    const { cwd, one, shared } = options(t)
    const { peer } = await held(t, one)
    const { code, holder } = await rejection(acquire(shared))
    assert.deepEqual([code, (holder as { pid: number }).pid], ['E_LOCK_CONTENTION', peer.child.pid])
    assert.deepEqual(readdirSync(cwd), ['l'])
  })

  test(`${form} waits for the last reader, even a killed one`, async (t) => {
    const { cwd, one, shared } = options(t)
    const [first, second] = [await held(t, shared), await held(t, shared)]
    const onWait = () => {
      first.peer.child.kill('SIGKILL')
      second.peer.child.kill('SIGKILL')
    }
    const lock = await acquire({ ...one, timeout: 30_000, onWait })
    assert.equal(lock.takenOver, undefined)
    assert.deepEqual(readdirSync(cwd), ['l'])
    lock.releaseSync()
    assert.deepEqual(readdirSync(cwd), [])
  })

  test(`${form} rolls back its wait for readers at the deadline`, async (t) => {
    const { cwd, one, shared } = options(t)
    const { peer } = await held(t, shared)
    const named = isLinux
      ? `process ${peer.child.pid} holds it in shared mode`
      : 'another process holds it in shared mode'
    await within(800, async () => {
      const started = performance.now()
      const { code, reason } = await rejection(acquire({ ...one, timeout: 300 }))
      const waited = performance.now() - started
      assert.ok(waited >= 299, `${waited} ms`)
      // The attempt of a busy machine may not end before the deadline.
      if (reason === 'the filesystem has not answered') return Number.POSITIVE_INFINITY
      assert.deepEqual([code, reason], ['E_LOCK_CONTENTION', named])
      assert.deepEqual(readdirSync(cwd), ['l.readers'])
      return waited
    })
    await acquire(shared)
  })
}

test('readers and owners acquire in the order of their calls', async (t) => {
  const { one, shared } = options(t)
  const order: string[] = []
  const waiting = new Set<number>()
  const first = await acquireLock(shared)
  const wait = async (each: AcquireOptions, index: number) => {
    const onWait = () => waiting.add(index)
    const lock = await acquireLock({ ...each, timeout: 30_000, onWait })
    order.push(`${index}`)
    await new Promise((resolve) => setImmediate(resolve))
    await lock.release()
  }
  const owner = wait(one, 0)
  await until(() => existsSync(one.file), 'the owner waits for the reader')
  const waits = [shared, shared, one].map((each, index) => wait(each, index + 1))
  assert.equal((await rejection(acquireLock(shared))).code, 'E_LOCK_CONTENTION')
  await until(() => waiting.size === 4, 'all wait')
  await first.release()
  await Promise.all([owner, ...waits])
  assert.deepEqual([order[0], order[3]], ['0', '3'])
  assert.deepEqual(order.slice(1, 3).sort(), ['1', '2'])
})

test('calls that do not acquire ignore shared', async (t) => {
  const options = { cwd: directory(t), shared: true, slots: 3, durable: true }
  assert.deepEqual([inspectLockSync(options).state, (await inspectLock(options)).state], ['free', 'free'])
  assert.equal(await breakLock(options), false)
  releaseLockSync(options)
  await releaseLock(options)
})

test('an abort ends the wait for readers', async (t) => {
  const { cwd, one, shared } = options(t)
  const reader = await acquireLock(shared)
  const abort = new AbortController()
  const waiting = rejection(acquireLock({ ...one, timeout: 30_000, signal: abort.signal }))
  await until(() => existsSync(one.file), 'the owner waits for the reader')
  abort.abort(new Error('enough'))
  assert.equal((await waiting).message, 'enough')
  await until(() => !existsSync(one.file), 'the path is free')
  await reader.release()
  assert.deepEqual(readdirSync(cwd), [])
})

// Only Linux has a queue of all processes.
const unordered = isLinux ? false : 'the order of processes is left to chance'
test('neither readers nor owners starve', { skip: unordered, timeout: 120_000 }, async (t) => {
  const { cwd, one } = options(t)
  const program = fileURLToPath(new URL('shared-process.mjs', import.meta.url))
  const modes = ['shared', 'shared', 'shared', 'shared', 'exclusive', 'exclusive']
  const processes = modes.map((mode, index) => {
    const args = [program, one.file, mode, String(10 + 7 * index)]
    return spawn(process.execPath, args, { stdio: ['pipe', 'pipe', 'inherit'] })
  })
  t.after(() => {
    for (const child of processes) child.kill('SIGKILL')
  })
  // Each continues until all have acquired often.
  const waits = await Promise.all(
    processes.map(async ({ stdout }) => String((await once(stdout, 'data'))[0])),
  )
  t.diagnostic(`longest waits of ${modes.join(', ')}: ${waits.join(', ').replaceAll('\n', '')} ms`)
  await Promise.all(
    processes.map(async (child) => {
      child.stdin.end()
      assert.deepEqual(await once(child, 'exit'), [0, null])
    }),
  )
  assert.deepEqual(readdirSync(cwd), [])
})

test('an owner that lost its file while waiting acquires again', async (t) => {
  const { one, shared } = options(t)
  const reader = await acquireLock(shared)
  const waiting = acquireLock({ ...one, timeout: 30_000 })
  await until(() => existsSync(one.file), 'the owner waits for the reader')
  rmSync(one.file)
  await reader.release()
  const lock = await waiting
  assert.equal(lock.isHeld(), true)
  await lock.release()
})

test('a synchronous upgrade is a deadlock', async (t) => {
  const { one, shared } = options(t)
  const lock = acquireLockSync(shared)
  const codeWithin = async (timeout: number) =>
    (await rejection(FORMS.acquireLockSync({ ...one, timeout }))).code
  assert.equal(await codeWithin(30_000), 'E_LOCK_DEADLOCK')
  const codes: unknown[] = []
  // A busy machine can take longer, but not each time.
  while (codes.length < 5 && !codes.includes('E_LOCK_DEADLOCK')) codes.push(await codeWithin(10))
  assert.ok(codes.includes('E_LOCK_DEADLOCK'), String(codes))
  assert.ok(lock.isHeld())
})

test("releaseLock finds a reader's lock by another path", {
  skip: process.platform === 'win32' && 'links to directories need a right',
}, async (t) => {
  const { cwd, one, shared } = options(t)
  const alias = join(directory(t), 'alias')
  symlinkSync(cwd, alias)
  const other = { ...one, file: join(alias, 'l') }
  const lock = await acquireLock(shared)
  const { code } = await rejection(FORMS.acquireLockSync({ ...other, timeout: 30_000 }))
  assert.equal(code, 'E_LOCK_DEADLOCK')
  await releaseLock(other)
  assert.equal(lock.isHeld(), false)
})

test('an owner is refused a path too long for readers', {
  skip: process.platform !== 'linux' && 'the length is that of Linux',
}, async (t) => {
  const { cwd } = options(t)
  let long = cwd
  while (long.length < 3900) long = join(long, 'd'.repeat(100))
  long = join(long, 'd'.repeat(4086 - long.length))
  mkdirSync(long, { recursive: true })
  symlinkSync(long, join(cwd, 's'))
  const reader = await acquireLock({ file: join(cwd, 's/l'), shared: true })
  const { code } = await rejection(acquireLock({ file: join(long, 'l') }))
  assert.equal(code, 'ENAMETOOLONG')
  assert.equal(await breakLock({ file: join(long, 'l'), force: true }), false)
  await reader.release()
})

test('a synchronous call claims no lock of the other mode', async (t) => {
  const { one, shared } = options(t)
  for (const [asynchronous, synchronous] of [
    [shared, one],
    [one, shared],
  ] as const) {
    const waits = [acquireLock(asynchronous), acquireLock({ ...asynchronous, timeout: 30_000 })]
    const lock = acquireLockSync({ ...synchronous, timeout: 30_000 })
    const status = inspectLockSync(one)
    assert.equal(status.readers === undefined, !('shared' in synchronous), JSON.stringify(status))
    const [first] = await Promise.allSettled(waits.slice(0, 1))
    lock.releaseSync()
    if (first?.status === 'fulfilled') await first.value.release()
    else assert.equal(first?.reason.code, 'E_LOCK_CONTENTION')
    await (await waits[1])?.release()
  }
})

test('inspectLock counts the readers and names them', async (t) => {
  const { one, shared } = options(t)
  const peers = [await held(t, shared), await held(t, shared)].map(({ peer }) => peer)
  const { state, holder, reason, readers } = await inspectLock(one)
  assert.deepEqual([state, holder], ['held', undefined])
  if (!isLinux) {
    assert.deepEqual([reason, readers], ['another process holds it in shared mode', []])
    return
  }
  const pids = peers.map(({ child }) => child.pid as number).sort((a, b) => a - b)
  assert.equal(reason, `2 processes hold it in shared mode: ${pids.join(', ')}`)
  assert.deepEqual(
    readers?.map(({ pid }) => pid),
    pids,
  )
  for (const { command, user } of readers ?? []) {
    assert.match(String(command), /peer\.mjs/)
    assert.equal(user, execFileSync('id', ['-un'], { encoding: 'utf8' }).trim())
  }
})

test('inspectLock reports an owner that waits for readers', async (t) => {
  const { one, shared } = options(t)
  const reader = await acquireLock(shared)
  const owner = acquireLock({ ...one, timeout: 30_000 })
  await until(() => inspectLockSync(one).holder, 'the owner has written its record')
  const { state, holder, readers } = inspectLockSync(one)
  assert.deepEqual([state, holder?.pid, readers?.length], ['held', process.pid, isLinux ? 1 : 0])
  await reader.release()
  await (await owner).release()
})

test('a reader reports a dead owner and leaves its file', async (t) => {
  const { cwd, one, shared } = options(t)
  writeFileSync(one.file, JSON.stringify({ pid: deadPid(), createdAt: 1 }))
  const reader = await acquireLock(shared)
  assert.match(reader.takenOver?.reason ?? '', /ended without releasing/)
  assert.deepEqual(readdirSync(cwd).sort(), ['l', 'l.readers'])
  await reader.release()
  const owner = await acquireLock(one)
  assert.match(owner.takenOver?.reason ?? '', /ended without releasing/)
})

test('releaseLock releases the readers of a path one by one', async (t) => {
  const { cwd, one, shared } = options(t)
  const locks = [await acquireLock(shared), await acquireLock(shared)]
  await releaseLock(one)
  assert.deepEqual(locks.map((lock) => lock.isHeld()).sort(), [false, true])
  releaseLockSync(one)
  await releaseLock(one)
  assert.deepEqual(readdirSync(cwd), [])
})

test(
  'a removed file of the readers is a loss',
  knownFailure(noDeletion, async (t) => {
    const { one, shared } = options(t)
    const [lost, released, other] = [
      await acquireLock(shared),
      await acquireLock(shared),
      await acquireLock(shared),
    ]
    const { signal } = lost
    assert.equal(await breakLock({ ...one, force: true }), true)
    await until(() => signal.aborted, 'the loss is reported')
    assert.equal(signal.reason.code, 'E_LOCK_LOST')
    assert.equal((await rejection(released.release())).code, 'E_LOCK_LOST')
    await acquireLock(shared)
    const { code, reason } = await rejection(other.release())
    assert.deepEqual([code, reason], ['E_LOCK_LOST', 'the path names another file now'])
  }),
)

test('breakLock without force is refused by readers', async (t) => {
  const { cwd, one, shared } = options(t)
  const { peer } = await held(t, shared)
  assert.equal((await rejection(breakLock(one))).code, 'E_LOCK_CONTENTION')
  peer.child.kill('SIGKILL')
  await until(async () => (await inspectLock(one)).state === 'free', 'the reader has ended')
  assert.equal(await breakLock(one), false)
  assert.deepEqual(readdirSync(cwd), [])
})

test('withLock takes locks of both modes', async (t) => {
  const { cwd, shared } = options(t)
  await withLock(
    async (locks) => {
      assert.deepEqual(readdirSync(cwd).sort(), ['l.readers', 'm'])
      assert.equal(locks.length, 2)
      await withLock(() => {}, shared)
    },
    [shared, { file: join(cwd, 'm') }],
  )
  assert.deepEqual(readdirSync(cwd), [])
})

test('shared mode refuses the file name of legacy processes', async (t) => {
  const { cwd } = options(t)
  const { code, message } = await rejection(acquireLock({ cwd, shared: true }))
  assert.equal(code, 'E_LOCK_UNSUPPORTED')
  assert.match(message, /a legacy process would acquire this lock beside its readers/)
  assert.deepEqual(readdirSync(cwd), [])
  const lock = await acquireLock({ cwd, shared: true, legacy: false })
  assert.equal((await rejection(acquireLock(cwd))).code, 'E_LOCK_CONTENTION')
  await lock.release()
})

test('shared mode refuses options that exclude it', async (t) => {
  const { shared } = options(t)
  for (const more of [{ slots: 2 }, { durable: true }]) {
    const { name, code, message } = await rejection(acquireLock({ ...shared, ...more }))
    assert.deepEqual([name, code], ['TypeError', 'ERR_INVALID_ARG_VALUE'])
    assert.match(message, /^The options "shared" and "\w+" exclude each other$/)
  }
})

for (const [what, make] of Object.entries({
  'a non-empty file': (path: string) => writeFileSync(path, 'notes'),
  'a directory': (path: string) => mkdirSync(path),
  ...(process.platform !== 'win32' && {
    'a symbolic link': (path: string) => symlinkSync('elsewhere', path),
  }),
})) {
  test(`${what} as the readers' file refuses readers alone`, async (t) => {
    const { cwd, one, shared } = options(t)
    make(`${one.file}.readers`)
    const { code, path } = await rejection(acquireLock(shared))
    assert.match(String(code), /^E_LOCK_(NOT_A_FILE|SYMLINK)$/)
    assert.equal(path, `${one.file}.readers`)
    const lock = await acquireLock(one)
    await lock.release()
    assert.deepEqual(readdirSync(cwd), ['l.readers'])
    rmSync(`${one.file}.readers`, { recursive: true })
  })
}
