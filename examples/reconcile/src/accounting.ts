import { appendFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout } from 'node:timers/promises'
import type { Payment } from './state/payment.js'
import { accepts } from './token/authority.js'

/** Throws unless the accounting service accepts the token. */
export async function checkAccess(dir: string, token: string): Promise<void> {
  if (await accepts(dir, token)) return
  throw new Error('the accounting service does not accept our token; remove token.json to log in again')
}

/**
 * Stands for the accounting service: it books whatever it is told, twice if told twice, in books of its own
 * (`accounting.jsonl`). Half of `pauseMs` passes on the way there and half on the way back, so that a run
 * can die before the booking or after it without knowing which.
 */
export function accounting(dir: string, pauseMs: number): (payment: Payment, token: string) => Promise<void> {
  const there = Math.floor(pauseMs / 2)
  return async (payment, token) => {
    if (there > 0) await setTimeout(there)
    await checkAccess(dir, token)
    await appendFile(join(dir, 'accounting.jsonl'), `${JSON.stringify(payment)}\n`)
    if (pauseMs > 0) await setTimeout(pauseMs - there)
  }
}
