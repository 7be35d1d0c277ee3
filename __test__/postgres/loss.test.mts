// Sessions that end while a lock is held or waited for.
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { subscribe, unsubscribe } from 'node:diagnostics_channel'
import type { Socket } from 'node:net'
import { after, before, type TestContext, test } from 'node:test'
import { setImmediate } from 'node:timers/promises'
import pg from 'pg'
import type { WaitStatus } from 'reconcile-lock'
import { type PostgresLock, type PostgresLocks, postgresLocks } from 'reconcile-lock/postgres'
import { rejection } from '../support/directory.mjs'
import { knownFailure } from '../support/known-failure.mjs'
import { DEADLINE, sleep, until } from '../support/time.mjs'
import { BackendProcess } from './backend.mjs'
import { watched } from './client.mjs'
import { Line } from './line.mjs'
import { PASSWORD, Postgres, USER } from './postgres.mjs'
import { quickest } from './quickest.mjs'

let postgres: Postgres
before(async () => {
  postgres = await Postgres.start()
})
after(() => postgres.stop())

/** The minimum, so that the tests are short. */
const SESSION_TIMEOUT = 4000

/** So long that only the server's message, and no query, reports the end of a session. */
const BY_MESSAGE = { sessionTimeout: 400_000 }

function locksOf(
  t: TestContext,
  options: { url?: string; sessionTimeout?: number; connectTimeout?: number } = {},
): PostgresLocks {
  const { url = postgres.url(), ...rest } = options
  const locks = postgresLocks({ connectionString: url, ...rest })
  t.after(() => locks.close())
  return locks
}

const superuser = (text: string) => postgres.sql(text, 'ledger', 'postgres')
const END_SESSION = 'SELECT pg_terminate_backend(backend) AS was FROM reconcile_lock WHERE name'
async function terminate(name: string): Promise<void> {
  assert.deepEqual(await superuser(`${END_SESSION} = '${name}'`), [{ was: true }], 'a session was ended')
}

const untilAborted = (lock: PostgresLock) => until(() => lock.signal.aborted, 'lock.signal is aborted')

async function isLost(lock: PostgresLock, why: RegExp): Promise<void> {
  const { reason } = lock.signal
  assert.deepEqual([reason.code, reason.name, reason.path], ['E_LOCK_LOST', 'LockError', lock.path])
  assert.match(reason.message, why)
  assert.equal(lock.isHeld(), false)
  assert.equal(await rejection(lock.release()), reason)
  await lock.release()
}

test('pg_terminate_backend aborts lock.signal', async (t) => {
  const locks = locksOf(t, BY_MESSAGE)
  const lock = await locks.acquireLock('terminated')
  assert.equal(lock.signal.aborted, false)
  await terminate('terminated')
  await untilAborted(lock)
  const next = await locks.acquireLock('terminated')
  assert.ok(next.token > lock.token)
  assert.equal(next.takenOver?.holder.pid, process.pid)
  await isLost(lock, /terminating connection due to administrator command/)
  assert.equal(next.isHeld(), true, 'the failed release keeps the lock of the next holder')
  await next.release()
})

test('ending the client of a lock loses the lock', async (t) => {
  const clients: pg.Client[] = []
  const connect = () => {
    const client = new pg.Client({ connectionString: postgres.url() })
    clients.push(client)
    return client
  }
  const locks = postgresLocks({ connect, ...BY_MESSAGE })
  t.after(() => locks.close())
  const lock = await locks.acquireLock('ended')
  await clients[0]?.end()
  await untilAborted(lock)
  await isLost(lock, /Connection terminated/)
})

test('a release does not abort lock.signal', async (t) => {
  const lock = await locksOf(t).acquireLock('released')
  await lock.release()
  await sleep(50, 'a late abort would arrive in this time')
  assert.equal(lock.signal.aborted, false)
})

for (const [name, how, why] of [
  ['fast', 'SIGINT', /terminating connection due to administrator command|has ended/],
  ['immediate', 'SIGQUIT', /because of crash|immediate|Connection terminated|has ended/],
] as const)
  test(`a ${name} server restart aborts lock.signal; later tokens are higher`, async (t) => {
    const locks = locksOf(t, BY_MESSAGE)
    const lock = await locks.acquireLock(name)
    const reasons: (string | undefined)[] = []
    const onWait = ({ reason }: WaitStatus) => void reasons.push(reason)
    const waiting = locks.acquireLock({ name, timeout: 60_000, onWait })
    await postgres.queues(1)
    await postgres.down(how)
    await untilAborted(lock)
    const { code, recoverable } = await rejection(locks.acquireLock(name))
    assert.deepEqual([typeof code, recoverable], ['string', true])
    await until(
      () => reasons.some((reason) => /connection is lost/.test(reason ?? '')),
      'onWait reports the loss',
    )
    await postgres.up()
    const next = await waiting
    assert.ok(next.token > lock.token)
    assert.equal(next.takenOver?.holder.pid, process.pid)
    await next.release()
    await isLost(lock, why)
  })

test('a wait on a Unix socket survives a server restart', async (t) => {
  const [row] = await superuser('SHOW unix_socket_directories')
  const where = { host: row?.unix_socket_directories, port: postgres.port, user: USER, database: 'ledger' }
  const locks = postgresLocks({ connect: () => new pg.Client(where), ...BY_MESSAGE })
  t.after(() => locks.close())
  const lock = await locks.acquireLock('socket')
  const waiting = locks.acquireLock({ name: 'socket', timeout: DEADLINE })
  await postgres.queues(1)
  await postgres.down('SIGINT')
  const { code, recoverable } = await rejection(locks.acquireLock('socket alone'))
  await sleep(500, 'the wait finds no socket several times')
  await postgres.up()
  assert.deepEqual([code, recoverable], ['ENOENT', true])
  await (await waiting).release()
  await isLost(lock, /terminating connection due to administrator command|has ended/)
})

const systemError = (code: string, syscall: string) =>
  Object.assign(new Error(`${syscall} ${code}`), { code, syscall })

async function isRecoverable(t: TestContext, failed: Error): Promise<unknown> {
  const connect = () => Object.assign(new pg.Client(), { connect: () => Promise.reject(failed) })
  const locks = postgresLocks({ connect })
  t.after(() => locks.close())
  return (await rejection(locks.acquireLock('unreachable'))).recoverable
}

for (const [code, syscall, expected] of [
  ['EAGAIN', 'connect', true],
  ['EADDRNOTAVAIL', 'connect', true],
  ['ENOENT', 'open', false],
] as const)
  test(`${code} of ${syscall} is ${expected ? '' : 'not '}recoverable`, async (t) => {
    assert.equal(await isRecoverable(t, systemError(code, syscall)), expected)
  })

test('a failed connect to several addresses is recoverable', async (t) => {
  const errors = ['EACCES', 'EADDRNOTAVAIL'].map((code) => systemError(code, 'connect'))
  // Node.js gives it the code of the first one.
  const failed = Object.assign(new AggregateError(errors), { code: 'EACCES' })
  assert.equal(await isRecoverable(t, failed), true)
})

test('a silent connection is lost before the session timeout', async (t) => {
  const line = await Line.start(t, postgres.port)
  const url = postgres.url('ledger', undefined, undefined, line.port)
  const locks = locksOf(t, { url, sessionTimeout: SESSION_TIMEOUT })
  const lock = await locks.acquireLock('cut')
  await sleep(SESSION_TIMEOUT / 2 + 100, 'the program is idle for longer than the server may be silent')
  assert.equal(lock.isHeld(), true, 'an idle program keeps its lock')
  line.isSilent = true
  const start = performance.now()
  await untilAborted(lock)
  const took = performance.now() - start
  t.diagnostic(`noticed after ${Math.round(took)} ms`)
  // Later on a busy machine, but before the server may grant the lock to another session.
  assert.ok(took <= (SESSION_TIMEOUT * 3) / 4, `${took} ms`)
  const direct = locksOf(t)
  const held = await rejection(direct.acquireLock('cut'))
  assert.equal(held.code, 'E_LOCK_CONTENTION', 'the server still has the session')
  line.isSilent = false
  await isLost(lock, /The server postgresql:\/\/\S+ did not answer within 1000 ms/)
  await (await direct.acquireLock({ name: 'cut', timeout: DEADLINE })).release()
})

test('an idle session that ended fails no later call', async (t) => {
  const locks = locksOf(t)
  for (let round = 0; round < 5; round += 1) {
    await (await locks.acquireLock('rested')).release()
    await terminate('rested')
    await (await locks.acquireLock('rested')).release()
  }
})

/** Ends the session of a lock while this process is blocked. */
function terminateUnread(name: string): void {
  const program = `const { Client } = require('pg')
    const client = new Client(${JSON.stringify(postgres.url('ledger', 'postgres'))})
    const isGone = () =>
      client.query("SELECT FROM pg_stat_activity AS s JOIN reconcile_lock ON s.pid = backend WHERE name = '${name}'")
        .then(({ rows }) => rows.length === 0 || isGone())
    client.connect()
      .then(() => client.query("${END_SESSION} = '${name}'"))
      .then(({ rows }) => console.log(JSON.stringify(rows)))
      .then(isGone)
      .then(() => client.end())`
  const printed = execFileSync(process.execPath, ['-e', program], {
    cwd: import.meta.dirname,
    encoding: 'utf8',
  })
  assert.deepEqual(JSON.parse(printed), [{ was: true }], 'a session was ended')
}

test('an idle session with an unread end fails no call', async (t) => {
  const locks = locksOf(t)
  await (await locks.acquireLock('unread')).release()
  terminateUnread('unread')
  await (await locks.acquireLock('unread')).release()
})

test('a release that detects the loss rejects with E_LOCK_LOST', async (t) => {
  const lock = await locksOf(t).acquireLock('unnoticed')
  terminateUnread('unnoticed')
  const error = await rejection(lock.release())
  assert.equal(error, lock.signal.reason)
  assert.equal(error.code, 'E_LOCK_LOST')
})

type Insides = { connection: { stream: Socket } }

test('a session that ends with its record holds no lock', async (t) => {
  class Ending extends pg.Client {
    override query(...args: unknown[]): never {
      const answer = super.query(...(args as [string]))
      // The answer and the end are then read at once.
      if ((args[0] as pg.QueryConfig).text?.includes('INSERT')) terminateUnread('along')
      return answer as never
    }
  }
  const connect = () => new Ending({ connectionString: postgres.url() })
  const locks = postgresLocks({ connect, ...BY_MESSAGE })
  t.after(() => locks.close())
  const { code, recoverable } = await rejection(locks.acquireLock('along'))
  assert.deepEqual([code, recoverable], ['57P01', true])
  const next = await locksOf(t).acquireLock('along')
  assert.equal(next.takenOver?.holder.pid, process.pid)
  await next.release()
})

test('a lost session is ended although the first attempt fails', async (t) => {
  const line = await Line.start(t, postgres.port)
  const ports = [line.port]
  let attempts = 0
  const connect = () => {
    const client = watched(postgres.url('ledger', undefined, undefined, ports.pop()), (text) => {
      if (!text.includes('pg_terminate_backend')) return undefined
      attempts += 1
      if (attempts === 1) (client as unknown as Insides).connection.stream.destroy()
      return undefined
    })
    return client
  }
  const locks = postgresLocks({ connect, sessionTimeout: SESSION_TIMEOUT })
  t.after(() => locks.close())
  const lock = await locks.acquireLock('again')
  line.isSilent = true
  await untilAborted(lock)
  assert.equal((await rejection(lock.release())).code, 'E_LOCK_LOST')
  await until(() => attempts === 1, 'an attempt fails')
  await (await locks.acquireLock('again')).release()
  assert.ok(attempts > 1)
})

test('a rolled back lock that was lost is not released', async (t) => {
  const [locks, others] = [locksOf(t, BY_MESSAGE), locksOf(t)]
  const dead = new BackendProcess(t, 'postgres', postgres.url())
  await dead.asks('acquire', { name: 'a' })
  await dead.ends('SIGKILL')
  const held = await others.acquireLock('b')
  const ends: string[] = []
  const listeners = ['lost', 'released'].map((end) => {
    const count = (message: unknown) => (message as { path: string }).path.endsWith('#a') && ends.push(end)
    return [`reconcile-lock:${end}`, count] as const
  })
  for (const [channel, count] of listeners) subscribe(channel, count)
  t.after(() => listeners.map(([channel, count]) => unsubscribe(channel, count)))
  const call = rejection(locks.withLock(() => assert.fail('it has both'), ['a', 'b'], { timeout: 1000 }))
  await postgres.queues(1)
  await terminate('a')
  assert.equal((await call).code, 'E_LOCK_CONTENTION')
  assert.deepEqual(ends, ['lost'])
  await held.release()
})

for (const [what, query, act] of [
  ['a rolled back take-over', 'INSERT', 'abort'],
  ['a failed release', 'pg_advisory_unlock', 'refuse'],
] as const)
  test(`${what} frees the lock despite silence`, async (t) => {
    const dead = new BackendProcess(t, 'postgres', postgres.url())
    await dead.asks('acquire', { name: what })
    await dead.ends('SIGKILL')
    const line = await Line.start(t, postgres.port)
    const ports = [line.port]
    const abort = new AbortController()
    const connect = () =>
      watched(postgres.url('ledger', undefined, undefined, ports.pop()), (text, isAnswered) => {
        if (!text.includes(query) || isAnswered !== (act === 'abort') || line.isSilent) return undefined
        line.isSilent = true
        if (act === 'refuse') throw Object.assign(new Error('the row is locked'), { code: '55P03' })
        abort.abort()
        return undefined
      })
    const locks = postgresLocks({ connect, sessionTimeout: SESSION_TIMEOUT })
    t.after(() => locks.close())
    const call = locks.acquireLock({ name: what, signal: abort.signal, timeout: DEADLINE })
    await rejection(act === 'abort' ? call : call.then((lock) => lock.release()))
    await (await locksOf(t).acquireLock({ name: what, timeout: 3000 })).release()
  })

test('a waiter whose session ends waits in another one', async (t) => {
  const locks = locksOf(t)
  const lock = await locks.acquireLock('waited for')
  const waiting = locks.acquireLock({ name: 'waited for', timeout: 60_000 })
  for (let round = 0; round < 3; round += 1) {
    await postgres.queues(1)
    await superuser(
      `SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted`,
    )
  }
  // Until the other session waits, a call is rejected with the error of the lost one.
  const refused = async () => (await rejection(locks.acquireLock('waited for'))).code === 'E_LOCK_CONTENTION'
  await until(refused, 'a call is refused in the other session')
  await lock.release()
  await (await waiting).release()
})

test('a call that has just joined a wait keeps waiting', async (t) => {
  const lock = await locksOf(t).acquireLock('joined')
  const asked = { name: 'joined', timeout: 60_000 }
  let second: Promise<PostgresLock> | undefined
  const connect = () => {
    const client = watched(postgres.url(), (text) => {
      if (!text.includes('PERFORM') || second) return undefined
      second = locks.acquireLock(asked)
      second.catch(() => {})
      ;(client as unknown as Insides).connection.stream.destroy()
      return undefined
    })
    return client
  }
  const locks = postgresLocks({ connect })
  t.after(() => locks.close())
  const first = locks.acquireLock(asked)
  await until(() => second !== undefined, 'the first call waits')
  await postgres.queues(1)
  await lock.release()
  await (await first).release()
  await (await second)?.release()
})

test('a killed waiter leaves the queue without the lock', async (t) => {
  const locks = locksOf(t)
  const lock = await locks.acquireLock('queue')
  const peer = new BackendProcess(t, 'postgres', postgres.url())
  peer.asks('acquire', { name: 'queue', timeout: 60_000 }).catch(() => {})
  await postgres.queues(1)
  await peer.ends('SIGKILL')
  await postgres.queues(0)
  await lock.release()
  const next = await locks.acquireLock('queue')
  assert.equal(next.takenOver, undefined)
  await next.release()
})

test('a waiter on a silent connection keeps its deadline', async (t) => {
  const direct = locksOf(t)
  const lock = await direct.acquireLock('silent')
  const line = await Line.start(t, postgres.port)
  const url = postgres.url('ledger', undefined, undefined, line.port)
  const locks = locksOf(t, { url, sessionTimeout: SESSION_TIMEOUT, connectTimeout: 1500 })
  const later = locks.acquireLock({ name: 'silent', timeout: 20_000 })
  await postgres.queues(1)
  line.isSilent = true
  const start = performance.now()
  const failed = rejection(locks.acquireLock({ name: 'silent', timeout: 600 }))
  await lock.release()
  assert.equal((await failed).code, 'E_LOCK_CONTENTION')
  assert.ok(performance.now() - start < 1500, 'in time')
  await sleep(SESSION_TIMEOUT, 'the client detects the silence')
  line.isSilent = false
  await (await later).release()
})

test('a silent idle session does not outlive a call', async (t) => {
  const line = await Line.start(t, postgres.port)
  const url = postgres.url('ledger', undefined, undefined, line.port)
  const locks = locksOf(t, { url, sessionTimeout: 120_000, connectTimeout: 1000 })
  // Two idle sessions, so that the call ends before the attempt to open a third one.
  const idle = await Promise.all(['idle and silent', 'other'].map((name) => locks.acquireLock(name)))
  for (const lock of idle) await lock.release()
  line.isSilent = true
  const start = performance.now()
  const { code, recoverable, message } = await rejection(locks.acquireLock('idle and silent'))
  assert.deepEqual([code, recoverable], ['ETIMEDOUT', true])
  assert.match(message, /^The lock idle and silent was neither acquired nor refused within 2000 ms$/)
  line.isSilent = false
  const next = () => locks.acquireLock('idle and silent').catch(() => null)
  const acquired = await until(next, 'the lock is acquired')
  await acquired?.release()
  // A quarter of the session timeout is 30 s.
  assert.ok(performance.now() - start < 15_000, 'in time')
})

for (const [what, program] of [
  ['holds a lock', `locks.acquireLock('alive')`],
  [
    'has released a lock',
    `locks.acquireLock('alive').then((lock) => lock.release()).then(() => {
      // Of no lock that it still tracks.
      process.exitCode = process.listenerCount('beforeExit')
    })`,
  ],
] as const)
  test(`an idle process that ${what} exits`, async () => {
    const url = JSON.stringify(postgres.url())
    const text = `const { postgresLocks } = require('reconcile-lock/postgres')
      const locks = postgresLocks({ connectionString: ${url} }); ${program}`
    const took = await quickest(3000, async () => {
      const start = performance.now()
      execFileSync(process.execPath, ['-e', text], { cwd: import.meta.dirname, timeout: 20_000 })
      return performance.now() - start
    })
    assert.ok(took < 3000, `${took} ms`)
    const [row] = await superuser(`SELECT released_at FROM reconcile_lock WHERE name = 'alive'`)
    assert.ok(row?.released_at, 'it was released, not dropped')
  })

const noFrozenProcess = { runtime: 'deno', why: 'Deno itself changes the process when it ends' } as const
test(
  'a lock works in a frozen process',
  knownFailure(noFrozenProcess, () => {
    const text = `const { postgresLocks } = require('reconcile-lock/postgres')
      const locks = postgresLocks({ connectionString: ${JSON.stringify(postgres.url())} })
      Object.freeze(process)
      locks.acquireLock('frozen').then((lock) => lock.release())`
    execFileSync(process.execPath, ['-e', text], { cwd: import.meta.dirname, timeout: DEADLINE })
  }),
)

test('a long session timeout leaves no minute without traffic', () => {
  const text = `const timers = require('node:timers')
    const { setTimeout } = timers
    const delays = []
    // The package reads the function when it loads.
    timers.setTimeout = (act, delay) => {
      delays.push(delay)
      return setTimeout(act, delay)
    }
    const { Client } = require('pg')
    const connect = () => {
      const client = new Client(${JSON.stringify(postgres.url())})
      client.connection.stream.setKeepAlive = (...args) => console.log(JSON.stringify(args))
      return client
    }
    const { postgresLocks } = require('reconcile-lock/postgres')
    postgresLocks({ connect, sessionTimeout: 3_600_000 }).acquireLock('long').then((lock) => {
      console.log(JSON.stringify(delays.at(-1)))
      return lock.release()
    })`
  const printed = execFileSync(process.execPath, ['-e', text], {
    cwd: import.meta.dirname,
    encoding: 'utf8',
    timeout: DEADLINE,
  })
  assert.deepEqual(printed.trim().split('\n'), ['[true,1800000]', '60000'])
})

test('a child does not keep the lock of its parent', async (t) => {
  const text = `
    const { postgresLocks } = require('reconcile-lock/postgres')
    postgresLocks({ connectionString: ${JSON.stringify(postgres.url())} }).acquireLock('parent').then(() => {
      const child = require('node:child_process').spawn('sleep', ['60'], { detached: true, stdio: 'ignore' })
      console.log(child.pid)
      process.kill(process.pid, 'SIGKILL')
    })`
  const child = Number(outputUntilKill(text))
  // A PID of 0 would signal the process group of this test.
  assert.ok(child > 0)
  t.after(() => process.kill(child, 'SIGKILL'))
  await (await locksOf(t).acquireLock('parent')).release()
})

function outputUntilKill(text: string): string {
  try {
    execFileSync(process.execPath, ['-e', text], { cwd: import.meta.dirname, encoding: 'utf8' })
    return assert.fail('it was not killed')
  } catch (error) {
    return (error as { stdout: string }).stdout.trim()
  }
}

test('withLock does not roll back a lock that was released', async (t) => {
  const [other, locks] = [locksOf(t), locksOf(t)]
  await other.acquireLock('rolled back')
  await terminate('rolled back')
  const awaited = await other.acquireLock('unavailable')
  const both = rejection(locks.withLock(() => {}, ['rolled back', 'unavailable'], { timeout: 1500 }))
  await postgres.queues(1)
  await locks.releaseLock('rolled back')
  const lock = await locks.acquireLock('in the same session')
  assert.equal((await both).code, 'E_LOCK_CONTENTION')
  await lock.confirm()
  assert.equal(lock.isHeld(), true)
  await lock.release()
  await awaited.release()
})

test('a session lost while idle does not keep its lock', async (t) => {
  const line = await Line.start(t, postgres.port)
  const locks = locksOf(t, {
    url: postgres.url('ledger', USER, PASSWORD, line.port),
    sessionTimeout: SESSION_TIMEOUT,
  })
  for (const lock of [await locks.acquireLock('idle'), await locks.acquireLock('idle too')])
    await lock.release()
  line.silent.add(0)
  const lock = await locks.acquireLock({ name: 'kept', timeout: DEADLINE })
  await lock.release()
})

test('a waiter ends the lost session of its own process', async (t) => {
  const line = await Line.start(t, postgres.port)
  const left = ['of the lock', 'of the waiter']
  const connect = () => {
    assert.ok(left.pop(), 'the server accepts no third connection')
    return new pg.Client(postgres.url('ledger', USER, PASSWORD, line.port))
  }
  const locks = postgresLocks({ connect, sessionTimeout: SESSION_TIMEOUT })
  t.after(() => locks.close())
  const lost = await locks.acquireLock('handed on')
  const waiting = locks.acquireLock({ name: 'handed on', timeout: DEADLINE })
  await postgres.queues(1)
  line.cut.add(0)
  await untilAborted(lost)
  assert.equal((await rejection(lost.release())).code, 'E_LOCK_LOST')
  await (await waiting).release()
})

test('a translated message ends the session, too', async (t) => {
  const line = await Line.start(t, postgres.port)
  line.rewrite = (bytes) => Buffer.from(bytes.toString('latin1').replace('SFATAL', 'STODLI'), 'latin1')
  const lock = await locksOf(t, { url: postgres.url('ledger', USER, PASSWORD, line.port) }).acquireLock(
    'translated',
  )
  const blocking = new pg.Client({ connectionString: postgres.url() })
  await blocking.connect()
  await blocking.query(`BEGIN; SELECT FROM reconcile_lock WHERE name = 'translated' FOR UPDATE`)
  const released = rejection(lock.release())
  const blocked = () => superuser('SELECT FROM pg_locks WHERE NOT granted')
  await until(async () => (await blocked()).length > 0, 'the release waits for the row')
  await terminate('translated')
  assert.equal((await released).code, 'E_LOCK_LOST')
  assert.equal(lock.signal.aborted, true)
  await blocking.end()
})

test('releases of lost locks share one connection', async (t) => {
  let [open, most] = [0, 0]
  const connect = () => {
    const client = new pg.Client({ connectionString: postgres.url() })
    open += 1
    most = Math.max(most, open)
    client.once('end', () => {
      open -= 1
    })
    return client
  }
  const locks = postgresLocks({ connect, ...BY_MESSAGE })
  t.after(() => locks.close())
  const acquire = (kind: string) =>
    Promise.all(Array.from({ length: 10 }, (_, number) => locks.acquireLock(`${kind} ${number}`)))
  const lost = await acquire('lost')
  for (const { name } of lost) await terminate(name)
  for (const lock of lost) await untilAborted(lock)
  const held = await acquire('held')
  await Promise.allSettled(lost.map((lock) => lock.release()))
  assert.ok(most <= 11, `${most} connections were open`)
  for (const lock of held) await lock.release()
})

test('a loss during the end of another ends its session', async (t) => {
  const line = await Line.start(t, postgres.port)
  const clients: pg.Client[] = []
  let onEnd = () => {}
  class Ending extends pg.Client {
    override end(): never {
      if (this === clients[2]) onEnd()
      return super.end() as unknown as never
    }
  }
  const connect = () => {
    const port = clients.length < 2 ? line.port : postgres.port
    const client = new Ending(postgres.url('ledger', USER, PASSWORD, port))
    clients.push(client)
    return client
  }
  const locks = postgresLocks({ connect, ...BY_MESSAGE })
  t.after(() => locks.close())
  const [one, two] = [await locks.acquireLock('ended first'), await locks.acquireLock('ended next')]
  // The server keeps both sessions, because it does not get the ends of their connections.
  line.isSilent = true
  for (const client of clients) (client as unknown as Insides).connection.stream.destroy()
  for (const lock of [one, two]) await untilAborted(lock)
  let second: Promise<Error> | undefined
  onEnd = () => {
    second = rejection(two.release())
  }
  await rejection(one.release())
  await until(() => second, 'the connection that has ended the first session closes')
  await second
  for (const { name } of [one, two]) await (await locksOf(t).acquireLock({ name, timeout: 3000 })).release()
})

test('a lock that is lost before its record rejects once', async () => {
  let connections = 0
  const connect = () => {
    connections += 1
    // The session cannot be ended on the server.
    if (connections > 1) throw Object.assign(new Error('refused'), { code: 'ECONNREFUSED' })
    const client = watched(postgres.url(), (text, isAnswered) => {
      if (text.includes('INSERT') && !isAnswered) (client as unknown as Insides).connection.stream.destroy()
      return undefined
    })
    return client
  }
  const rejections: unknown[] = []
  const onRejection = (error: unknown) => rejections.push(error)
  process.on('unhandledRejection', onRejection)
  assert.equal((await rejection(postgresLocks({ connect }).acquireLock('unrecorded'))).code, '08006')
  await until(() => connections > 1, 'another session is opened')
  await setImmediate()
  process.off('unhandledRejection', onRejection)
  assert.deepEqual(rejections, [])
})

test('a call after a loss does not need pg_terminate_backend', async (t) => {
  await superuser('REVOKE EXECUTE ON FUNCTION pg_terminate_backend FROM PUBLIC')
  t.after(() => superuser('GRANT EXECUTE ON FUNCTION pg_terminate_backend TO PUBLIC'))
  let tries = 0
  const connect = () => {
    const client = watched(postgres.url(), (text, isAnswered) => {
      if (!text.includes('pg_try_advisory_lock') || isAnswered) return undefined
      tries += 1
      if (tries === 2) (client as unknown as Insides).connection.stream.destroy()
      return undefined
    })
    return client
  }
  const locks = postgresLocks({ connect })
  t.after(() => locks.close())
  for (let round = 0; round < 3; round += 1) await (await locks.acquireLock('no right')).release()
  assert.equal(tries, 4)
})
