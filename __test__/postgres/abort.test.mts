// Aborts in the middle of an acquire; a client that reports its queries makes each moment reproducible.
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { subscribe, unsubscribe } from 'node:diagnostics_channel'
import { once } from 'node:events'
import { text } from 'node:stream/consumers'
import { after, before, test } from 'node:test'
import pg from 'pg'
import { type PostgresOptions, postgresLocks } from 'reconcile-lock/postgres'
import { rejection } from '../support/directory.mjs'
import { DEADLINE, until } from '../support/time.mjs'
import { BackendProcess } from './backend.mjs'
import { watched } from './client.mjs'
import { Postgres } from './postgres.mjs'

let postgres: Postgres
before(async () => {
  postgres = await Postgres.start()
})
after(() => postgres.stop())

const reason = new Error('enough')
/** So long that the server does not detect a lost client during a test. */
const locksBy = (connect: PostgresOptions['connect']) => postgresLocks({ connect, sessionTimeout: 400_000 })

/** Returns a function that reports whether the connection of a client has ended. */
function endOf(client: pg.Client): () => boolean {
  let hasEnded = false
  client.once('end', () => {
    hasEnded = true
  })
  return () => hasEnded
}

test('an abort while connecting closes the late connection', async () => {
  const abort = new AbortController()
  let isConnecting = () => {}
  const connecting = new Promise<void>((resolve) => {
    isConnecting = resolve
  })
  let connect = () => {}
  const mayConnect = new Promise<void>((resolve) => {
    connect = resolve
  })
  let hasEnded: (() => boolean) | undefined
  const locks = locksBy(async () => {
    isConnecting()
    await mayConnect
    const client = new pg.Client({ connectionString: postgres.url() })
    hasEnded ??= endOf(client)
    return client
  })
  let outcome: unknown
  void rejection(locks.acquireLock({ name: 'connecting', signal: abort.signal })).then((error) => {
    outcome = error
  })
  await connecting
  abort.abort(reason)
  await until(() => outcome, 'the call rejects before it is connected')
  assert.equal(outcome, reason)
  connect()
  await until(() => hasEnded?.(), 'the late connection is closed')
  assert.equal((await locks.inspectLock('connecting')).state, 'free')
  await locks.close()
})

test('an abort after the grant writes no row', async () => {
  const holder = postgresLocks({ connectionString: postgres.url() })
  const lock = await holder.acquireLock('won')
  const abort = new AbortController()
  const queries: string[] = []
  const locks = locksBy(() =>
    watched(postgres.url(), (text, isAnswered) => {
      queries.push(text)
      if (text.includes('PERFORM pg_advisory_lock') && isAnswered) abort.abort(reason)
      return undefined
    }),
  )
  const call = rejection(locks.acquireLock({ name: 'won', timeout: 10_000, signal: abort.signal }))
  await postgres.queues(1)
  await lock.release()
  assert.equal(await call, reason)
  assert.ok(queries.some((text) => text.includes('PERFORM pg_advisory_lock')))
  assert.ok(!queries.some((text) => text.includes('INSERT')))
  const next = await holder.acquireLock('won')
  assert.equal(next.takenOver, undefined)
  await next.release()
  await Promise.all([locks.close(), holder.close()])
})

test('an abort while recording keeps the dead holder for takenOver', async (t) => {
  const dead = new BackendProcess(t, 'postgres', postgres.url())
  const { holder } = await dead.asks('acquire', { name: 'written' })
  await dead.ends('SIGKILL')
  const abort = new AbortController()
  const locks = locksBy(() =>
    watched(postgres.url(), (text) => {
      if (text.includes('INSERT')) abort.abort(reason)
      return undefined
    }),
  )
  assert.equal(await rejection(locks.acquireLock({ name: 'written', signal: abort.signal })), reason)
  const next = await postgresLocks({ connectionString: postgres.url() }).acquireLock({
    name: 'written',
    timeout: 10_000,
  })
  assert.deepEqual(next.takenOver?.holder, holder)
  await next.release()
  await locks.close()
})

test('an abort of a reader writes no row', async (t) => {
  const dead = new BackendProcess(t, 'postgres', postgres.url())
  const { holder } = await dead.asks('acquire', { name: 'read' })
  await dead.ends('SIGKILL')
  const abort = new AbortController()
  const queries: string[] = []
  const locks = locksBy(() =>
    watched(postgres.url(), (text) => {
      queries.push(text)
      if (text.includes("'previousHolder'")) abort.abort(reason)
      return undefined
    }),
  )
  const { signal } = abort
  const call = locks.acquireLock({ name: 'read', shared: true, timeout: 10_000, signal })
  assert.equal(await rejection(call), reason)
  const others = postgresLocks({ connectionString: postgres.url() })
  const next = await others.acquireLock({ name: 'read', timeout: 10_000 })
  assert.deepEqual(next.takenOver?.holder, holder)
  assert.ok(!queries.some((text) => text.includes('UPDATE')))
  await next.release()
  await Promise.all([locks.close(), others.close()])
})

test('an abort while waiting opens no second connection', async () => {
  const holder = postgresLocks({ connectionString: postgres.url() })
  const lock = await holder.acquireLock('amid')
  const abort = new AbortController()
  let connections = 0
  const locks = locksBy(() => {
    connections += 1
    return new pg.Client({ connectionString: postgres.url() })
  })
  const call = rejection(locks.acquireLock({ name: 'amid', timeout: 60_000, signal: abort.signal }))
  await postgres.queues(1)
  abort.abort(reason)
  assert.equal(await call, reason)
  await lock.release()
  const next = await holder.acquireLock({ name: 'amid', timeout: 10_000 })
  assert.deepEqual([connections, next.takenOver], [1, undefined])
  await next.release()
  await Promise.all([locks.close(), holder.close()])
})

/** Runs a program; returns the signal that ended it, SIGTERM if it does not end by itself, and its output. */
async function outcomeOf(program: string): Promise<[signal: NodeJS.Signals | null, output: string]> {
  const child = spawn(process.execPath, ['-e', program], { cwd: import.meta.dirname, timeout: 20_000 })
  const [[, signal], output] = await Promise.all([once(child, 'close'), text(child.stdout)])
  return [signal, output]
}

for (const [what, listen] of [
  ['another onWait', `onWait = () => abort.abort()`],
  [
    'a subscriber',
    `require('node:diagnostics_channel').subscribe('reconcile-lock:contended', () => abort.abort())`,
  ],
] as const)
  test(`a process ends after an abort by ${what}`, async () => {
    const holder = postgresLocks({ connectionString: postgres.url() })
    const lock = await holder.acquireLock('first refusal')
    const program = `const { postgresLocks } = require('reconcile-lock/postgres')
      const locks = postgresLocks({ connectionString: ${JSON.stringify(postgres.url())} })
      const abort = new AbortController()
      let onWait
      ${listen}
      const options = { name: 'first refusal', timeout: 60_000, signal: abort.signal }
      const calls = [{ onWait }, {}, { signal: undefined, timeout: 500 }]
        .map((more) => locks.acquireLock({ ...options, ...more }).catch(({ name }) => name))
      Promise.all(calls).then((names) => console.log(names.join()))`
    assert.deepEqual(await outcomeOf(program), [null, 'AbortError,AbortError,LockError\n'])
    await lock.release()
    await holder.close()
  })

test('an aborted call beyond maxConnections lets the process end', async () => {
  const program = `const { postgresLocks } = require('reconcile-lock/postgres')
    const locks = postgresLocks({ connectionString: ${JSON.stringify(postgres.url())}, maxConnections: 1 })
    const abort = new AbortController()
    locks.acquireLock('only').then(() => {
      const options = { name: 'more', timeout: 60_000, signal: abort.signal }
      locks.acquireLock(options).catch(({ name }) => console.log(name))
      abort.abort()
    })`
  assert.deepEqual(await outcomeOf(program), [null, 'AbortError\n'])
})

test('a subscriber aborts a refused call beside a waiting one', async (t) => {
  const locks = postgresLocks({ connectionString: postgres.url() })
  t.after(() => locks.close())
  const held = await locks.acquireLock('refused')
  const waiting = locks.acquireLock({ name: 'refused', timeout: DEADLINE })
  await postgres.queues(1)
  const abort = new AbortController()
  const onContended = () => abort.abort(reason)
  subscribe('reconcile-lock:contended', onContended)
  t.after(() => unsubscribe('reconcile-lock:contended', onContended))
  assert.equal(await rejection(locks.acquireLock({ name: 'refused', signal: abort.signal })), reason)
  await held.release()
  await (await waiting).release()
})

test('a call after an aborted wait queries the lock again', async () => {
  const holder = postgresLocks({ connectionString: postgres.url() })
  const lock = await holder.acquireLock('anew')
  let hasWaited = false
  let answer = () => {}
  const mayAnswer = new Promise<void>((resolve) => {
    answer = resolve
  })
  const locks = locksBy(() =>
    watched(postgres.url(), async (text, isAnswered) => {
      if (!text.includes('PERFORM') || !isAnswered) return undefined
      hasWaited = true
      await mayAnswer
      return undefined
    }),
  )
  const abort = new AbortController()
  const { signal } = abort
  const aborted = rejection(locks.acquireLock({ name: 'anew', timeout: DEADLINE, signal }))
  await until(() => hasWaited, 'a statement has waited')
  abort.abort(reason)
  const call = locks.acquireLock('anew')
  await Promise.all([lock.release(), aborted])
  answer()
  await (await call).release()
  await Promise.all([locks.close(), holder.close()])
})
