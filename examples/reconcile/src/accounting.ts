import { appendFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout } from 'node:timers/promises'
import type { Payment } from './state/payment.js'

/**
 * Stands for the accounting service: it books whatever it is told, twice if told twice, in books of its own
 * (`accounting.jsonl`). Half of `pauseMs` passes on the way there and half on the way back, so that a run
 * can die before the booking or after it without knowing which.
 */
export function accounting(dir: string, pauseMs: number): (payment: Payment) => Promise<void> {
  const there = Math.floor(pauseMs / 2)
  return async (payment) => {
    if (there > 0) await setTimeout(there)
    await appendFile(join(dir, 'accounting.jsonl'), `${JSON.stringify(payment)}\n`)
    if (pauseMs > 0) await setTimeout(pauseMs - there)
  }
}
