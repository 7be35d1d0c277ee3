// Timeouts that end while the lock is released: a refused call holds nothing.
import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { setTimeout } from 'node:timers/promises'
import { type PostgresLocks, postgresLocks } from 'reconcile-lock/postgres'
import { Postgres } from '../postgres/postgres.mjs'
import { until } from '../support/time.mjs'

/** Fewer in other runtimes: they run the same code with the same server. */
const CALLS = process.versions.bun || process.versions.deno ? 1000 : 10_000
const NAMES = 8
const WAITERS = 3

let postgres: Postgres
before(async () => {
  postgres = await Postgres.start()
})
after(() => postgres.stop())

/** One holder, and waiters whose timeouts are about as long as it holds; returns how many acquired. */
async function round(all: PostgresLocks[], name: string): Promise<number> {
  const [holder, ...others] = all as [PostgresLocks, ...PostgresLocks[]]
  const hold = 5 + Math.random() * 15
  const lock = await holder.acquireLock({ name, timeout: 10_000 })
  const calls = others.map(async (locks) => {
    const timeout = Math.max(1, hold + (Math.random() - 0.5) * 10)
    const won = await locks.acquireLock({ name, timeout }).catch((error) => {
      assert.equal(error.code, 'E_LOCK_CONTENTION')
    })
    await won?.release()
    return won ? 1 : 0
  })
  await setTimeout(hold)
  await lock.release()
  const won: number[] = await Promise.all(calls)
  return won.reduce((sum, each) => sum + each, 0)
}

test(`${CALLS} calls that time out during a release lock nothing`, async (t) => {
  let [calls, won] = [0, 0]
  const names = Array.from({ length: NAMES }, (_, index) => `name ${index}`)
  await Promise.all(
    names.map(async (name) => {
      // Each keeps an idle session for its next call.
      const make = () => postgresLocks({ connectionString: postgres.url() })
      const all = Array.from({ length: WAITERS + 1 }, make)
      while (calls < CALLS) {
        calls += WAITERS
        won += await round(all, name)
      }
      for (const locks of all) await locks.close()
    }),
  )
  t.diagnostic(`${won} of ${calls} acquired`)
  assert.ok(won > CALLS / 100 && won < CALLS * 0.95, `${won} of ${calls} acquired`)
  const locked = "SELECT FROM pg_locks WHERE locktype = 'advisory'"
  await until(async () => (await postgres.sql(locked)).length === 0, 'nothing is locked')
})
