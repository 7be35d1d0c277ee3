// A process of the benchmark: `node worker.mjs KIND PLACE`, with a directory or the URL of a database. Orders and
// answers are lines; `benches/flock.rs` supports the first two orders:
//   hold          `asked PID` before it acquires, with the process that will sleep, then `held NS`
//   release       `released NS`, with the moment just before the release
//   race JSON     acquires `times` times from `start` on, and holds for `held` ms; `done` with the moments and the CPU time
//   holdAll N     `done` when it holds N locks; `releaseAll` releases them
//   waitAll JSON  starts `calls` that wait for N locks, and `done`; `finish`: `done N` when N have acquired and released
//   beside N      `done` with the times of a pair, of releaseLock(path) and of isHeld beside N held locks, in us
//   occupyHeld N, occupyWaiting N  `done` with the bytes of each of N held locks, or of each of N waiters of one path
//   rest MS       `done` with the CPU time and the additional threads of the next MS milliseconds
import { spawnSync } from 'node:child_process'
import { closeSync, openSync, readdirSync, writeFileSync, writeSync } from 'node:fs'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { setTimeout } from 'node:timers/promises'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { measure } from './measure.mjs'
import { period } from './targets.mjs'

const require = createRequire(import.meta.url)
const [kind, place] = process.argv.slice(2)
const now = () => process.hrtime.bigint()
// Synchronous, because the event loop may be blocked next.
const print = (line) => writeSync(1, `${line}\n`)

const waiting = { cwd: place, timeout: Infinity }
const own = (options) => () => {
  const { acquireLock } = require('reconcile-lock')
  return async () => {
    const lock = await acquireLock(options)
    return () => lock.release()
  }
}
const ownSync = (options) => () => {
  const { acquireLockSync } = require('reconcile-lock')
  return () => {
    const lock = acquireLockSync(options)
    return () => lock.releaseSync()
  }
}

async function connected() {
  const client = new (require('pg').Client)(place)
  await client.connect()
  return client
}

/** Each returns a function that acquires, which returns a function that releases. */
const kinds = {
  own: own(waiting),
  'own-sync': ownSync(waiting),
  'own-without-legacy': own({ ...waiting, legacy: false }),
  'own-sync-without-legacy': ownSync({ ...waiting, legacy: false }),
  async legacy() {
    const legacy = await import('../../build/__test__/legacy/lock.mjs')
    return async function acquire() {
      try {
        await legacy.acquireLock(place)
      } catch (error) {
        if (error.code !== 'E_LOCK_CONTENTION') throw error
        await setTimeout(period)
        return acquire()
      }
      return () => legacy.releaseLock(place)
    }
  },
  proper() {
    // It locks an existing file by a directory beside it. `stale` is its minimum; the default is 10 s.
    const subject = join(place, 'subject.json')
    writeFileSync(subject, '{}')
    return () => require('proper-lockfile').lock(subject, { retries: 10, stale: 2000 })
  },
  flock() {
    return () => {
      const file = openSync(join(place, 'flock.lock'), 'a')
      // The lock belongs to the open file, which the command shares as its standard input.
      const { status, error } = spawnSync('flock', ['0'], { stdio: [file, 'inherit', 'inherit'] })
      if (status !== 0) throw error ?? new Error(`flock 0: exit code ${status}`)
      return () => closeSync(file)
    }
  },
  postgres() {
    const locks = require('reconcile-lock/postgres').postgresLocks({ connectionString: place })
    return async () => {
      const lock = await locks.acquireLock({ timeout: Infinity })
      return () => lock.release()
    }
  },
  async 'postgres-bare'() {
    const client = await connected()
    return async () => {
      await client.query('SELECT pg_advisory_lock(1)')
      return () => client.query('SELECT pg_advisory_unlock(1)')
    }
  },
  async 'postgres-polled'() {
    const client = await connected()
    return async function acquire() {
      const { rows } = await client.query('SELECT pg_try_advisory_lock(2) AS "isHeld"')
      if (rows[0].isHeld) return () => client.query('SELECT pg_advisory_unlock(2)')
      await setTimeout(period)
      return acquire()
    }
  },
}

const acquire = await kinds[kind]()
/** The bytes of each of the last three quarters; the first quarter brings what is there once. */
async function occupied(count, occupy) {
  setFlagsFromString('--expose-gc')
  const collect = runInNewContext('gc')
  const resident = () => {
    collect()
    return process.memoryUsage.rss()
  }
  await occupy(0, count / 4)
  const before = resident()
  await occupy(count / 4, count)
  return (resident() - before) / (count * 0.75)
}

const countThreads = () => readdirSync('/proc/self/task').length
const threadsBefore = countThreads()
let release
let held = []
let calls = []
let settled = 0
const lockOf = (number, paths) => ({ ...waiting, file: `${number % paths}.lock` })

const orders = {
  async hold() {
    print(`asked ${process.pid}`)
    release = await acquire()
    print(`held ${now()}`)
  },
  async release() {
    const at = now()
    await release()
    print(`released ${at}`)
  },
  async race({ start, times, held }) {
    await setTimeout(Number(BigInt(start) - now()) / 1e6)
    const before = process.cpuUsage()
    const moments = []
    for (let turn = 0; turn < times; turn += 1) {
      const asked = now()
      const done = await acquire()
      const enter = now()
      if (held > 0) await setTimeout(held)
      moments.push([asked, enter, now()].map(String))
      await done()
    }
    const { user, system } = process.cpuUsage(before)
    return { moments, busy: user + system }
  },
  holdAll(paths) {
    const { acquireLockSync } = require('reconcile-lock')
    held = Array.from({ length: paths }, (_, number) => acquireLockSync(lockOf(number, paths)))
    return held.length
  },
  releaseAll() {
    for (const lock of held) lock.releaseSync()
    return held.length
  },
  waitAll({ waiters, paths }) {
    const { acquireLock } = require('reconcile-lock')
    const wait = async (number) => {
      const lock = await acquireLock(lockOf(number, paths)).finally(() => {
        settled += 1
      })
      await lock.release()
    }
    calls = Array.from({ length: waiters }, (_, number) => wait(number))
    return calls.length
  },
  async rest(milliseconds) {
    const [threads, before, from] = [countThreads(), process.cpuUsage(), performance.now()]
    await setTimeout(milliseconds)
    const { user, system } = process.cpuUsage(before)
    const percent = (user + system) / 10 / (performance.now() - from)
    return { percent, threads: Math.max(threads, countThreads()) - threadsBefore, settled }
  },
  async beside(count) {
    const { acquireLockSync, releaseLockSync } = require('reconcile-lock')
    orders.holdAll(count)
    const one = { cwd: place, file: 'one' }
    const pair = await measure(() => acquireLockSync(one).releaseSync(), false)
    const byPath = await measure(() => {
      acquireLockSync(one)
      releaseLockSync(one)
    }, false)
    const isHeld = await measure(held[0].isHeld, false)
    return { pair: pair / 1000, byPath: byPath / 1000, isHeld: isHeld / 1000 }
  },
  occupyHeld: (count) =>
    occupied(count, (from, to) => {
      const { acquireLockSync } = require('reconcile-lock')
      for (let number = from; number < to; number += 1)
        held.push(acquireLockSync({ cwd: place, file: `${number}.lock` }))
    }),
  occupyWaiting(count) {
    orders.holdAll(1)
    return occupied(count, async (from, to) => {
      const { acquireLock } = require('reconcile-lock')
      for (let number = from; number < to; number += 1) calls.push(acquireLock(lockOf(0, 1)))
      // All of them have begun to wait.
      await setTimeout(2000)
    })
  },
  async finish() {
    return (await Promise.all(calls)).length
  },
}

const lines = createInterface({ input: process.stdin })
lines.on('line', async (line) => {
  const [order, value = '0'] = line.split(' ')
  const answer = await orders[order](JSON.parse(value))
  if (answer !== undefined) print(`done ${JSON.stringify(answer)}`)
})
// Ends with the benchmark.
lines.on('close', () => process.exit(0))
print(`ready ${now()}`)
