// Waiting for a condition or, if none can be observed, sleeping; `npm test` lists the sleeps.
import { appendFileSync } from 'node:fs'
import { setTimeout } from 'node:timers/promises'

/** The limit of a wait in milliseconds: far longer than a wait takes on a busy machine. */
export const DEADLINE = 30_000

/** Waits until `check` returns a truthy value, and returns it; throws with `what` after `DEADLINE`. */
export async function until<T>(check: () => T | Promise<T>, what = String(check)): Promise<T> {
  const late = new AbortController()
  const end = setTimeout(DEADLINE, undefined, { signal: late.signal }).then(() => {
    throw new Error(`not within ${DEADLINE} ms: ${what}`)
  })
  try {
    for (;;) {
      const value = await Promise.race([check(), end])
      if (value) return value
      await Promise.race([setTimeout(5), end])
    }
  } finally {
    late.abort()
    end.catch(() => {})
  }
}

/** Sleeps because no event shows when `why` is true. `npm test` lists the sleeps and their sum. */
export async function sleep(milliseconds: number, why: string): Promise<void> {
  record(milliseconds, why)
  await setTimeout(milliseconds)
}

/** Calls `act` after a delay, which `npm test` lists as a sleep. */
export function later(milliseconds: number, why: string, act: () => unknown): void {
  record(milliseconds, why)
  globalThis.setTimeout(act, milliseconds)
}

function record(milliseconds: number, why: string): void {
  const log = process.env.RECONCILE_TEST_SLEEPS
  if (log) appendFileSync(log, `${JSON.stringify({ milliseconds, why })}\n`)
}
