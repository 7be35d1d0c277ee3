// Thousands of waiters of one process for one lock.
import assert from 'node:assert/strict'
import { subscribe, unsubscribe } from 'node:diagnostics_channel'
import { test } from 'node:test'
import { acquireLock } from 'reconcile-lock'
import { Peer } from '../support/child.mjs'
import { directory } from '../support/directory.mjs'
import { sleep, until } from '../support/time.mjs'

const WAITERS = 5000
const LONG = 120_000

/** The share of a processor that this process uses in its best second. */
async function processorShare(bound: number): Promise<number> {
  let least = Number.POSITIVE_INFINITY
  for (let second = 0; second < 10 && least >= bound; second += 1) {
    const [before, started] = [process.cpuUsage(), performance.now()]
    await sleep(1000, 'the processor time of the waiters is measured')
    const { user, system } = process.cpuUsage(before)
    least = Math.min(least, (user + system) / 1000 / (performance.now() - started))
  }
  return least
}

test(`${WAITERS} waiters use no processor time and acquire in order`, async (t) => {
  const cwd = directory(t)
  const holder = new Peer(t)
  assert.equal((await holder.acquire(cwd, 'native')).ok, true)
  let refused = 0
  const countRefusal = () => {
    refused += 1
  }
  subscribe('reconcile-lock:contended', countRefusal)
  t.after(() => unsubscribe('reconcile-lock:contended', countRefusal))
  const order: number[] = []
  const waits = Array.from({ length: WAITERS }, async (_, index) => {
    const lock = await acquireLock({ cwd, timeout: LONG })
    order.push(index)
    await lock.release()
  })
  await until(() => refused === WAITERS, 'every first attempt is refused')
  const bound = 0.01
  const share = await processorShare(bound)
  t.diagnostic(`${(share * 100).toFixed(2)} % of a processor`)
  assert.ok(share < bound, `${share * 100} % of a processor`)
  await holder.ask({ do: 'release', lock: 'native', cwd })
  await Promise.all(waits)
  assert.deepEqual(
    order,
    order.toSorted((a, b) => a - b),
  )
})
