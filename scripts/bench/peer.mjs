// A process that holds or waits for a lock, and tells when.
// Usage: node peer.mjs KIND PLACE, a directory or the URL of a database; orders come as lines on standard input, answers go to standard output:
//   hold     `asked PID` before it asks for the lock (PID is the process that will sleep), `held NS` after
//   release  `released NS` with the moment just before it released
// NS is CLOCK_MONOTONIC, the clock of `process.hrtime.bigint()` on Linux: libuv's `uv__hrtime` calls
// `clock_gettime(CLOCK_MONOTONIC)`, which all processes of one kernel share.
import { spawnSync } from 'node:child_process'
import { closeSync, openSync, writeFileSync, writeSync } from 'node:fs'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { setTimeout } from 'node:timers/promises'
import { pathToFileURL } from 'node:url'
import { root } from '../steps.mjs'
import { period, properOptions } from './waits.mjs'

const require = createRequire(import.meta.url)
const [kind, place] = process.argv.slice(2)
const now = () => process.hrtime.bigint()
// Written at once, also by one that blocks its event loop next.
const say = (line) => writeSync(1, `${line}\n`)

const waiting = { cwd: place, timeout: Infinity }
const withoutLegacy = { ...waiting, legacy: false }

const own = (options) => async () => {
  const { acquireLock } = require(`${root}dist/index.js`)
  return async () => {
    const lock = await acquireLock(options)
    return () => lock.release()
  }
}

const ownSync = (options) => async () => {
  const { acquireLockSync } = require(`${root}dist/index.js`)
  return () => {
    const lock = acquireLockSync(options)
    return () => lock.releaseSync()
  }
}

/** Each gives a function that acquires, which gives a function that releases. */
const kinds = {
  own: own(waiting),
  'own-sync': ownSync(waiting),
  'own-without-legacy': own(withoutLegacy),
  'own-sync-without-legacy': ownSync(withoutLegacy),
  async original() {
    const original = await import(pathToFileURL(`${root}build/__test__/legacy/lock.mjs`).href)
    const acquire = () =>
      original.acquireLock(place).catch(async (error) => {
        if (error.code !== 'E_LOCK_CONTENTION') throw error
        await setTimeout(period)
        return acquire()
      })
    return async () => {
      await acquire()
      return () => original.releaseLock(place)
    }
  },
  async proper() {
    const { lock } = require('proper-lockfile')
    // It locks a file that exists, by making a directory beside it.
    const subject = join(place, 'subject.json')
    writeFileSync(subject, '{}')
    return () => lock(subject, properOptions)
  },
  async flock() {
    const path = join(place, 'flock.lock')
    return () => {
      const file = openSync(path, 'a')
      // The lock belongs to the open file, which the command shares as its standard input.
      const { status, error } = spawnSync('flock', ['0'], { stdio: [file, 'inherit', 'inherit'] })
      if (status !== 0) throw error ?? new Error(`flock 0: exit code ${status}`)
      return () => closeSync(file)
    }
  },
  async postgres() {
    const { postgresLocks } = require(`${root}dist/postgres.js`)
    const locks = postgresLocks({ connectionString: place })
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
    const acquire = async () => {
      const { rows } = await client.query('SELECT pg_try_advisory_lock(2) AS "isHeld"')
      if (rows[0].isHeld) return () => client.query('SELECT pg_advisory_unlock(2)')
      await setTimeout(period)
      return acquire()
    }
    return acquire
  },
}

async function connected() {
  const { Client } = require('pg')
  const client = new Client(place)
  await client.connect()
  return client
}

const acquire = await kinds[kind]()
/** @type {undefined | (() => void | Promise<void>)} */
let release
const orders = {
  async hold() {
    say(`asked ${process.pid}`)
    release = await acquire()
    say(`held ${now()}`)
  },
  async release() {
    const at = now()
    await release()
    say(`released ${at}`)
  },
}

const lines = createInterface({ input: process.stdin })
lines.on('line', (order) => orders[order]())
// Nobody is left to obey: it never outlives the benchmark.
lines.on('close', () => process.exit(0))
say(`ready ${now()}`)
