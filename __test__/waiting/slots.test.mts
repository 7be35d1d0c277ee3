// At most n holders at once: `slots`.
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { readdirSync, renameSync, statSync, symlinkSync } from 'node:fs'
import { basename, join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import {
  type AcquireOptions,
  acquireLock,
  acquireLockSync,
  type Holder,
  type Lock,
  releaseLockSync,
  withLock,
} from 'reconcile-lock'
import { Peer } from '../support/child.mjs'
import { directory, isWindows, rejection } from '../support/directory.mjs'
import { knownFailure } from '../support/known-failure.mjs'
import { sleep } from '../support/time.mjs'
import { begin } from '../support/waits.mjs'
import { noDeletion } from '../support/wine.mjs'
import { within } from '../support/within.mjs'

const FORMS = {
  acquireLock,
  acquireLockSync: async (options: AcquireOptions) => acquireLockSync(options),
}

/** Three slots of which `count` are held. */
async function slots(t: TestContext, count: number, timeout = 0) {
  const options = { file: join(directory(t), 'l'), slots: 3, timeout }
  const locks: Lock[] = []
  for (let slot = 0; slot < count; slot += 1) locks.push(await acquireLock(options))
  return { options, locks: locks as [Lock, ...Lock[]] }
}

for (const [form, acquire] of Object.entries(FORMS)) {
  test(`${form} fills the slots in order, then refuses`, async (t) => {
    const { options } = await slots(t, 0)
    const locks = [await acquire(options), await acquire(options), await acquire(options)]
    assert.deepEqual(
      locks.map(({ path }) => basename(path)),
      ['l', 'l.slot1', 'l.slot2'],
    )
    const error = await rejection(acquire(options))
    const { code, path, reason, message } = error
    assert.deepEqual(
      [code, path, reason, message],
      ['E_LOCK_CONTENTION', options.file, 'all 3 slots are held', 'Another reconcile run is in progress'],
    )
    assert.equal((error.holder as Holder).pid, process.pid)
    await locks[1]?.release()
    assert.equal((await acquire(options)).path, locks[1]?.path)
  })

  test(`${form} refuses at one deadline for all slots`, async (t) => {
    const peer = new Peer(t)
    const { options } = await slots(t, 0, 300)
    const names = ['l', 'l.slot1', 'l.slot2']
    for (const file of names)
      await peer.ask({ do: 'acquire', cwd: join(options.file, '..'), options: { file } })
    // Three deadlines would take 900 ms.
    await within(850, async () => {
      const started = performance.now()
      const { code, reason, holder } = await rejection(acquire(options))
      assert.deepEqual([code, reason], ['E_LOCK_CONTENTION', 'all 3 slots are held'])
      assert.equal((holder as Holder).pid, peer.child.pid)
      const waited = performance.now() - started
      assert.ok(waited >= 300, `${waited} ms`)
      return waited
    })
    assert.deepEqual(readdirSync(join(options.file, '..')).sort(), names)
  })

  test(`${form} gets the slot whose holder is killed`, async (t) => {
    const peer = new Peer(t)
    const { options } = await slots(t, 0, 30_000)
    const cwd = join(options.file, '..')
    await peer.ask({ do: 'acquire', cwd, options: { file: 'l' } })
    await peer.ask({ do: 'acquire', cwd, options: { file: 'l.slot1' } })
    const third = new Peer(t)
    await third.ask({ do: 'acquire', cwd, options: { file: 'l.slot2' } })
    const lock = await acquire({ ...options, onWait: () => third.child.kill('SIGKILL') })
    assert.equal(basename(lock.path), 'l.slot2')
    assert.equal(lock.takenOver?.holder?.pid, third.child.pid)
    await lock.release()
    assert.deepEqual(readdirSync(cwd).sort(), ['l', 'l.slot1'])
  })

  test(`${form} waits for no other slot when it has one`, async (t) => {
    const peer = new Peer(t)
    const { options } = await slots(t, 0, 30_000)
    const cwd = join(options.file, '..')
    const files = ['l', 'l.slot1', 'l.slot2']
    for (const file of files)
      assert.equal((await peer.ask({ do: 'acquire', cwd, options: { file } })).ok, true)
    const own = await acquire({ ...options, onWait: () => peer.child.kill('SIGKILL') })
    for (const file of files.filter((file) => file !== basename(own.path)))
      await (await acquireLock({ cwd, file, timeout: 1000 })).release()
    await own.release()
    assert.deepEqual(readdirSync(cwd), [])
  })

  test(`a throwing listener ends the wait for all slots: ${form}`, async (t) => {
    const peer = new Peer(t)
    const { options } = await slots(t, 0, 30_000)
    const cwd = join(options.file, '..')
    const files = ['l', 'l.slot1', 'l.slot2']
    for (const file of files)
      assert.equal((await peer.ask({ do: 'acquire', cwd, options: { file } })).ok, true)
    const onWait = () => {
      throw new Error('enough')
    }
    assert.equal((await rejection(acquire({ ...options, onWait }))).message, 'enough')
    const written = () => files.map((file) => statSync(join(cwd, file)).mtimeMs)
    const before = written()
    await peer.ends('SIGKILL')
    await sleep(50, 'a wait that continues would acquire a slot')
    // A take-over that is rolled back writes the record anew.
    assert.deepEqual(written(), before)
  })

  test(`${form} reports the error of a slot`, {
    skip: isWindows && 'a link needs a privilege',
  }, async (t) => {
    const peer = new Peer(t)
    const { options } = await slots(t, 0, 2000)
    const cwd = join(options.file, '..')
    for (const file of ['l', 'l.slot1', 'l.slot2'])
      assert.equal((await peer.ask({ do: 'acquire', cwd, options: { file } })).ok, true)
    const path = `${options.file}.slot1`
    const onWait = () => {
      symlinkSync('elsewhere', join(cwd, 'link'))
      renameSync(join(cwd, 'link'), path)
    }
    for (const call of [
      { ...options, onWait },
      { ...options, timeout: 0 },
    ]) {
      const error = await rejection(acquire(call))
      assert.deepEqual([error.code, error.path], ['E_LOCK_SYMLINK', path])
    }
  })
}

test('acquireLockSync waits for a slot beside one of its thread', async (t) => {
  const peer = new Peer(t)
  const { options } = await slots(t, 1, 30_000)
  for (const file of ['l.slot1', 'l.slot2'])
    await peer.ask({ do: 'acquire', cwd: join(options.file, '..'), options: { file } })
  const lock = acquireLockSync({ ...options, onWait: () => peer.child.kill('SIGKILL') })
  assert.equal(lock.takenOver?.holder?.pid, peer.child.pid)
})

test('an abort ends the wait for every slot', async (t) => {
  const { options, locks } = await slots(t, 3, 30_000)
  const abort = new AbortController()
  const waiting = rejection(acquireLock({ ...options, signal: abort.signal }))
  abort.abort(new Error('enough'))
  assert.equal((await waiting).message, 'enough')
  for (const lock of locks) await lock.release()
  assert.deepEqual(readdirSync(join(options.file, '..')), [])
})

test('acquireLockSync reports a deadlock if its thread holds all slots', async (t) => {
  const { options } = await slots(t, 3, 30_000)
  assert.throws(() => acquireLockSync(options), { code: 'E_LOCK_DEADLOCK' })
})

test('a call without slots uses the first one', async (t) => {
  const { options, locks } = await slots(t, 1)
  assert.equal((await rejection(acquireLock({ file: options.file }))).code, 'E_LOCK_CONTENTION')
  await withLock(({ path }) => assert.equal(basename(path), 'l.slot1'), options)
  await locks[0].release()
})

for (const [value, code] of [
  [0, 'ERR_OUT_OF_RANGE'],
  [1.5, 'ERR_OUT_OF_RANGE'],
  [1001, 'ERR_OUT_OF_RANGE'],
  [Number.NaN, 'ERR_OUT_OF_RANGE'],
  ['3', 'ERR_INVALID_ARG_TYPE'],
] as const)
  test(`slots: ${JSON.stringify(value)} is refused`, async (t) => {
    const cwd = directory(t)
    assert.throws(() => acquireLockSync({ cwd, slots: value as never }), { code })
    assert.equal((await rejection(acquireLock({ cwd, slots: value as never }))).code, code)
    assert.deepEqual(readdirSync(cwd), [])
  })

test(
  'never more processes than slots, also after kills',
  knownFailure({ ...noDeletion, sometimes: true }, async (t) => {
    const file = join(directory(t), 'l')
    const program = fileURLToPath(new URL('slots-process.mjs', import.meta.url))
    const ends = [-1, -1, -1, -1, 7, 12].map(
      (killedIn) =>
        new Promise<string>((resolve) => {
          const args = [program, file, '40', String(killedIn)]
          execFile(process.execPath, args, (error, stdout, stderr) =>
            resolve(error ? (error.signal ?? stderr) : stdout),
          )
        }),
    )
    const outputs = await Promise.all(ends)
    // Windows has no signals.
    const killed = isWindows ? '' : 'SIGKILL'
    assert.deepEqual(outputs.slice(4), [killed, killed])
    const most = outputs.slice(0, 4).map((output) => Number(/^l: at most (\d+)\n$/.exec(output)?.[1]))
    // A busy machine may start one process after the other.
    assert.ok(Math.max(...most) <= 3, outputs.join())
  }),
)

test('releaseLockSync releases a slot only after its call ends', async (t) => {
  for (let round = 0; round < 5; round += 1) {
    const cwd = directory(t)
    const files = ['l', 'l.slot1']
    const peers = files.map(() => new Peer(t))
    for (const [index, file] of files.entries())
      await peers[index]?.ask({ do: 'acquire', cwd, options: { file } })
    const { waiting } = await begin({ cwd, file: 'l', slots: 2 })
    let isOver = false
    const sweep = () => {
      if (isOver) return
      const other = acquireLockSync({ cwd, file: 'other' })
      for (const file of [...files, 'other']) releaseLockSync({ cwd, file })
      assert.equal(other.isHeld(), false)
      setImmediate(sweep)
    }
    sweep()
    for (const { child } of peers) child.kill('SIGKILL')
    const lock = await waiting
    isOver = true
    assert.ok(lock.isHeld())
    releaseLockSync({ file: lock.path })
    assert.equal(lock.isHeld(), false)
  }
})
