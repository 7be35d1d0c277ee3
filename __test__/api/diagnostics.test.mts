import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { subscribe, unsubscribe } from 'node:diagnostics_channel'
import { renameSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import {
  acquireLock,
  acquireLockSync,
  type LockChannels,
  releaseLock,
  releaseLockSync,
  withLock,
} from 'reconcile-lock'
import { Peer } from '../support/child.mjs'
import { deadPid, directory, isWindows, leave, rejection } from '../support/directory.mjs'
import { knownFailure } from '../support/known-failure.mjs'
import { sleep, until } from '../support/time.mjs'
import { begin } from '../support/waits.mjs'
import { noDeletion } from '../support/wine.mjs'

const home = fileURLToPath(new URL('../../../dist/index.js', import.meta.url))
const names = ['acquired', 'contended', 'waiting', 'takenover', 'released', 'lost'] as const

type Event = { name: string } & Record<string, unknown>

/** Collects the messages of the channels about locks in `cwd`; `times` has the durations. */
function listen(t: TestContext, cwd: string): { events: Event[]; times: number[] } {
  const published = { events: [] as Event[], times: [] as number[] }
  for (const name of names) {
    const listener = (message: unknown) => {
      const { at, waited, held, ...rest } = message as Record<string, unknown> & { path: string; at: number }
      if (!rest.path.startsWith(cwd)) return
      assert.ok(Math.abs(Date.now() - at) < 5000, `${name} at ${at}`)
      const time = waited ?? held
      if (time !== undefined) published.times.push(time as number)
      published.events.push({ name, ...rest })
    }
    subscribe(`reconcile-lock:${name}`, listener)
    t.after(() => unsubscribe(`reconcile-lock:${name}`, listener))
  }
  return published
}

const calls = [
  ['async', acquireLock, (lock: { release(): Promise<void> }) => lock.release()],
  [
    'sync',
    async (o: object) => acquireLockSync(o),
    async (lock: { releaseSync(): void }) => lock.releaseSync(),
  ],
] as const

for (const [kind, acquire, release] of calls) {
  test(`acquired and released are published once each (${kind})`, async (t) => {
    const cwd = directory(t)
    const { events, times } = listen(t, cwd)
    const lock = await acquire({ cwd })
    const { path, holder } = lock
    assert.deepEqual(events, [{ name: 'acquired', path, holder }])
    await sleep(30, 'a lock is held for a while')
    await release(lock)
    await release(lock)
    assert.deepEqual(events.slice(1), [{ name: 'released', path, holder }])
    assert.equal(times[0], 0)
    assert.ok((times[1] ?? 0) >= 28 && (times[1] ?? 0) < 10_000, `${times[1]} ms held`)
  })

  test(`contended and waiting are published with the holder (${kind})`, async (t) => {
    const cwd = directory(t)
    const peer = new Peer(t)
    await peer.acquire(cwd)
    const { events, times } = listen(t, cwd)
    const { holder, path } = await rejection(acquire({ cwd }))
    assert.equal((holder as { pid: number }).pid, peer.child.pid)
    assert.deepEqual(events, [{ name: 'contended', path, holder }])
    await rejection(acquire({ cwd, timeout: 500 }))
    assert.deepEqual(events.slice(1), [
      { name: 'contended', path, holder },
      { name: 'waiting', path, holder },
    ])
    assert.equal(times.length, 1, 'waiting has a time')
    assert.ok(times.every((time) => time >= 0 && time < 500))
  })

  test(`takenover is published with the previous holder (${kind})`, async (t) => {
    const cwd = directory(t)
    const from = { pid: deadPid(), createdAt: 5 }
    leave(cwd, from)
    const { events } = listen(t, cwd)
    const { path, holder, takenOver } = await acquire({ cwd })
    assert.deepEqual(events, [
      { name: 'takenover', path, holder, from, reason: takenOver?.reason },
      { name: 'acquired', path, holder, takenOver },
    ])
    await releaseLock(cwd)
  })

  test(
    `lost is published when a lost lock is released (${kind})`,
    knownFailure(noDeletion, async (t) => {
      const cwd = directory(t)
      const { events } = listen(t, cwd)
      const lock = await acquire({ cwd })
      rmSync(lock.path)
      assert.equal(lock.isHeld(), false)
      assert.equal(events.length, 1)
      const { reason } = await rejection(release(lock))
      assert.deepEqual(events.slice(1), [{ name: 'lost', path: lock.path, holder: lock.holder, reason }])
    }),
  )
}

test(
  'a release by path publishes released or lost',
  knownFailure(noDeletion, async (t) => {
    const cwd = directory(t)
    const { events } = listen(t, cwd)
    await releaseLock(cwd)
    assert.deepEqual(events, [])
    for (const release of [releaseLock, async (target: string) => releaseLockSync(target)]) {
      const { path, holder } = await acquireLock(cwd)
      await release(cwd)
      assert.deepEqual(events.splice(0).slice(1), [{ name: 'released', path, holder }])
      await acquireLock(cwd)
      rmSync(path)
      writeFileSync(path, 'another’s')
      await rejection(release(cwd))
      assert.deepEqual(
        events.splice(0).map(({ name }) => name),
        ['acquired', 'lost'],
      )
      rmSync(path)
    }
  }),
)

test(
  'the rollback of a lost lock is published as lost',
  knownFailure(noDeletion, async (t) => {
    const cwd = directory(t)
    const peer = new Peer(t)
    await peer.ask({ do: 'acquire', cwd, options: { file: 'b' } })
    const { events } = listen(t, cwd)
    const onWait = () => rmSync(join(cwd, 'a'), { force: true })
    await rejection(withLock(() => {}, [{ file: 'a' }, { file: 'b' }], { cwd, timeout: 100, onWait }))
    const ofA = events.filter(({ path }) => String(path).endsWith('a')).map(({ name }) => name)
    assert.deepEqual(ofA, ['acquired', 'lost'])
  }),
)

test('a lock reported as lost is not published as released', async (t) => {
  const cwd = directory(t)
  const { events } = listen(t, cwd)
  const lock = await acquireLock(cwd)
  const { signal } = lock
  renameSync(lock.path, join(cwd, 'moved'))
  await until(() => signal.aborted, 'the loss is noticed')
  renameSync(join(cwd, 'moved'), lock.path)
  await lock.release()
  assert.deepEqual(
    events.map(({ name }) => name),
    ['acquired', 'lost'],
  )
})

test('acquired is published with the time of the wait', async (t) => {
  const cwd = directory(t)
  const first = await acquireLock(cwd)
  const { events, times } = listen(t, cwd)
  const { waiting } = await begin({ cwd })
  await sleep(50, 'a wait lasts for a while')
  await first.release()
  await (await waiting).release()
  const waited = times[events.findIndex(({ name }) => name === 'acquired') - 1] ?? 0
  assert.ok(waited >= 48 && waited < 20_000, `${waited} ms`)
})

/** The standard error of a program. */
function printed(t: TestContext, program: string, env: NodeJS.ProcessEnv = {}): string {
  const file = join(directory(t), 'program.cjs')
  writeFileSync(file, `const lock = require(${JSON.stringify(home)})\nconst cwd = __dirname\n${program}`)
  const child = spawnSync(process.execPath, [file], {
    encoding: 'utf8',
    env: { ...process.env, ...env },
    timeout: 30_000,
  })
  assert.equal(child.status, 0, child.stderr)
  return child.stderr
}

test(
  'NODE_DEBUG prints all events, including releases at exit',
  knownFailure({ runtime: 'bun', why: 'util.debuglog() prints nothing in Bun' }, (t) => {
    const program = `
    const first = lock.acquireLockSync(cwd)
    try { lock.acquireLockSync(cwd) } catch {}
    first.releaseSync()
    lock.acquireLockSync(cwd)`
    const lines = printed(t, program, { NODE_DEBUG: 'reconcile-lock' }).trim().split('\n')
    const events = lines.map(
      (line) => /^RECONCILE-LOCK \d+: (\w+) \{"path":"(?:\/|\w:).*json"/.exec(line)?.[1],
    )
    assert.deepEqual(events, ['acquired', 'contended', 'released', 'acquired', 'released'], lines.join('\n'))
    assert.equal(printed(t, program), '', 'without NODE_DEBUG nothing is printed')
    const twice = `
    const path = require.resolve(${JSON.stringify(home)})
    delete require.cache[path]
    for (const { acquireLockSync } of [lock, require(path)]) acquireLockSync(cwd).releaseSync()`
    const acquired = printed(t, twice, { NODE_DEBUG: 'reconcile-lock' }).match(/: acquired /g)
    assert.equal(acquired?.length, 2, 'two copies print each event once')
  }),
)

test(
  'the exit handler publishes lost and released',
  knownFailure(noDeletion, (t) => {
    const program = `
    const { subscribe } = require('node:diagnostics_channel')
    for (const name of ['released', 'lost'])
      subscribe('reconcile-lock:' + name, ({ path, reason }) => console.error(name, path, reason))
    const { path } = lock.acquireLockSync(cwd)
    lock.acquireLockSync({ cwd, file: 'other.lock' })
    const { path: replaced } = lock.acquireLockSync({ cwd, file: 'replaced.lock' })
    const { renameSync, rmSync, writeFileSync } = require('node:fs')
    rmSync(path)
    // In one step: the loss can be noticed at any moment.
    writeFileSync(cwd + '/new', '')
    renameSync(cwd + '/new', replaced)`
    const output = printed(t, program)
    assert.equal(output.match(/^lost (?:\/|\w:).*json the path no longer names a file$/gm)?.length, 1, output)
    assert.match(output, /^lost .*replaced.lock the path names another file now$/m)
    assert.match(output, /^released (?:\/|\w:).*other.lock undefined$/m)
  }),
)

test('an exit publishes each release once', { skip: isWindows && 'links need a privilege' }, (t) => {
  const link = join(directory(t), 'link')
  const program = `
    const { subscribe } = require('node:diagnostics_channel')
    for (const name of ['released', 'lost'])
      subscribe('reconcile-lock:' + name, ({ path }) => console.error(name, path.at(-1)))
    require('node:fs').symlinkSync(cwd, ${JSON.stringify(link)})
    const [a, b, c] = ['a', 'b', 'c'].map((file) => lock.acquireLockSync({ cwd, file }))
    process.on('exit', () => c.releaseSync())
    a.release()
    lock.releaseLock({ cwd: ${JSON.stringify(link)}, file: 'b' })
    process.exit()`
  const events = printed(t, program).trim().split('\n')
  assert.deepEqual(events.toSorted(), ['released a', 'released b', 'released c'])
})

test('no clock and no holder is read without a subscriber', (t) => {
  // The package keeps the functions that it finds when it loads, and its own binary is loaded once.
  const program = `
    let reads = 0
    const count = (object, name) => {
      const original = object[name]
      object[name] = function () { reads += 1; return original.apply(this, arguments) }
    }
    count(Date, 'now')
    count(process, 'uptime')
    count(require(Object.keys(require.cache).find((path) => path.endsWith('.node'))), 'ownHolder')
    for (const path in require.cache) if (path.endsWith('.js')) delete require.cache[path]
    const again = require(${JSON.stringify(home)})
    const pair = () => {
      reads = 0
      again.acquireLockSync(cwd).releaseSync()
      console.error(reads)
    }
    pair()
    require('node:diagnostics_channel').subscribe('reconcile-lock:released', () => {})
    pair()`
  const [without, withOne] = printed(t, program).trim().split('\n')
  assert.equal(without, '0')
  assert.notEqual(withOne, '0')
})

test('LockChannels declares every channel', () => {
  const channel: Record<`reconcile-lock:${(typeof names)[number]}`, { path: string }> = {} as LockChannels
  assert.ok(channel)
})
