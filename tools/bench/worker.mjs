// A process of the benchmark: `node worker.mjs KIND PLACE`, with a directory or the URL of a database. Its orders, of
// which `benches/flock.rs` supports the first two:
//   hold          prints `asked PID` before it acquires, with the process that will sleep, then `held NS`
//   release       prints `released NS`, with the moment just before the release
//   race          acquires `times` times from `start` on, and holds for `held` ms; the moments and the CPU time
//   holdAll N     holds N locks; `releaseAll` releases them
//   waitAll       the CPU time and the additional threads while calls wait for N locks; `finish` waits for these calls
//   pair          the mean nanoseconds of an acquire and a release
//   beside N      the times of a pair, of releaseLock(path) and of isHeld beside N held locks
//   occupyHeld N, occupyWaiting N  the bytes of each of N held locks, or of each of N waiters of one path
import { spawnSync } from 'node:child_process'
import { subscribe } from 'node:diagnostics_channel'
import { closeSync, openSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import Module, { createRequire } from 'node:module'
import { join } from 'node:path'
import { setTimeout } from 'node:timers/promises'
import { measure } from './measure.mjs'
import { period } from './targets.mjs'
import { now, print, serve } from './workers.mjs'

const require = createRequire(import.meta.url)
const [kind, place] = process.argv.slice(2)
/** Loads the package only in a process that uses it. */
const api = () => require('reconcile-lock')

const waiting = { cwd: place, timeout: Infinity }
const own = (acquireName, releaseName, options) => () => {
  const acquire = api()[acquireName]
  const settings = { ...waiting, ...options }
  return async () => {
    const lock = await acquire(settings)
    return () => lock[releaseName]()
  }
}

async function connected() {
  const client = new (require('pg').Client)(place)
  await client.connect()
  return client
}

/** The settings of a call without options: mode 0600, and legacy processes may use the file. */
const DEFAULTS = 0o1600

const facade = () => {
  const { acquireLockSync } = api()
  return () => acquireLockSync(place).releaseSync()
}

/** Each returns a function that acquires, which returns a function that releases. Those of `pair` do both in one. */
const kinds = {
  binding() {
    // The package loads the addon and sets it up.
    api()
    const addon = Object.keys(require.cache).find((path) => path.endsWith('.node'))
    const { acquireSync, releaseByIdSync } = require(addon)
    return () => releaseByIdSync(acquireSync(place, undefined, undefined, DEFAULTS, 0, 0).id)
  },
  /** The facade without the checks for subscribers. */
  silent() {
    const load = Module._extensions['.js']
    Module._extensions['.js'] = (module, path) => {
      if (path !== require.resolve('reconcile-lock')) return load(module, path)
      const checks = /channels\(\)\.\w+\.hasSubscribers/g
      module._compile(readFileSync(path, 'utf8').replace(checks, 'false'), path)
    }
    return facade()
  },
  unsubscribed: facade,
  subscribed() {
    for (const name of ['acquired', 'contended', 'waiting', 'takenover', 'released', 'lost'])
      subscribe(`reconcile-lock:${name}`, () => {})
    return facade()
  },
  own: own('acquireLock', 'release'),
  'own-sync': own('acquireLockSync', 'releaseSync'),
  'own-without-legacy': own('acquireLock', 'release', { legacy: false }),
  'own-sync-without-legacy': own('acquireLockSync', 'releaseSync', { legacy: false }),
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
  const resident = () => {
    globalThis.gc()
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
    const { acquireLockSync } = api()
    held = Array.from({ length: paths }, (_, number) => acquireLockSync(lockOf(number, paths)))
    return held.length
  },
  releaseAll() {
    for (const lock of held) lock.releaseSync()
    return held.length
  },
  async waitAll({ waiters, paths }) {
    const { acquireLock } = api()
    const wait = async (number) => {
      const lock = await acquireLock(lockOf(number, paths))
      settled += 1
      await lock.release()
    }
    calls = Array.from({ length: waiters }, (_, number) => wait(number))
    // Idle threads end within this time.
    await setTimeout(1000)
    const [before, from] = [process.cpuUsage(), performance.now()]
    await setTimeout(5000)
    const { user, system } = process.cpuUsage(before)
    const share = (user + system) / 10 / (performance.now() - from)
    return { 'CPU %': share, 'threads more': countThreads() - threadsBefore, settled }
  },
  pair: () => measure(acquire, false),
  async beside(count) {
    const { acquireLockSync, releaseLockSync } = api()
    orders.holdAll(count)
    const one = { cwd: place, file: 'one' }
    const pair = await measure(() => acquireLockSync(one).releaseSync(), false)
    const byPath = await measure(() => {
      acquireLockSync(one)
      releaseLockSync(one)
    }, false)
    const isHeld = await measure(held[0].isHeld, false)
    return { 'pair us': pair / 1000, 'by path us': byPath / 1000, 'isHeld us': isHeld / 1000 }
  },
  occupyHeld: (count) =>
    occupied(count, (from, to) => {
      const { acquireLockSync } = api()
      for (let number = from; number < to; number += 1)
        held.push(acquireLockSync({ cwd: place, file: `${number}.lock` }))
    }),
  occupyWaiting(count) {
    orders.holdAll(1)
    return occupied(count, async (from, to) => {
      const { acquireLock } = api()
      for (let number = from; number < to; number += 1) calls.push(acquireLock(lockOf(0, 1)))
      // All of them have begun to wait.
      await setTimeout(2000)
    })
  },
  async finish() {
    return (await Promise.all(calls)).length
  },
}

serve(orders)
