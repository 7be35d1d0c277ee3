// Waiting: for something that happens, or, if nothing can be waited for, by a sleep that the run lists.
import { appendFileSync } from 'node:fs'
import { setTimeout } from 'node:timers/promises'

/** How long anything may take that a test waits for, in milliseconds: far longer than on a busy machine. */
export const DEADLINE = 30_000

/** Waits until `check` returns something true, and returns that; fails after `DEADLINE`, and names `what`. */
export async function until<T>(check: () => T | Promise<T>, what = String(check)): Promise<T> {
  const end = performance.now() + DEADLINE
  for (;;) {
    const value = await check()
    if (value) return value
    if (performance.now() > end) throw new Error(`not within ${DEADLINE} ms: ${what}`)
    await setTimeout(5)
  }
}

/** Sleeps so many milliseconds, because nothing shows when `why` is so. `npm test` lists these with their sum. */
export async function sleep(milliseconds: number, why: string): Promise<void> {
  record(milliseconds, why)
  await setTimeout(milliseconds)
}

/** Calls `act` after so many milliseconds, listed as `sleep` is. */
export function later(milliseconds: number, why: string, act: () => unknown): void {
  record(milliseconds, why)
  globalThis.setTimeout(act, milliseconds)
}

function record(milliseconds: number, why: string): void {
  const log = process.env.RECONCILE_TEST_SLEEPS
  if (log) appendFileSync(log, `${JSON.stringify({ milliseconds, why })}\n`)
}
