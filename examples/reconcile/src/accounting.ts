import { appendFile, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout } from 'node:timers/promises'
import { codeOf } from './errors.js'
import type { Payment } from './state/payment.js'
import { accepts } from './token/authority.js'

/** A line of the books: a payment and its idempotency key, or only the fence of a run. */
type Line = Partial<Payment> & { key?: string; fence?: string }

const path = (dir: string) => join(dir, 'accounting.jsonl')

/** Throws unless the accounting service accepts the token. */
export async function checkAccess(dir: string, token: string): Promise<void> {
  if (await accepts(dir, token)) return
  throw new Error('the accounting service does not accept our token; remove token.json to log in again')
}

/**
 * Sends the fence of a run, the token of its lock, to the accounting service. From then on it refuses lower ones, so
 * a late payment of an earlier run cannot arrive any more. To be called before the run reads which payments arrived.
 */
export async function raiseFence(dir: string, fence: bigint): Promise<void> {
  checkFence(await readBooks(dir), fence)
  await append(dir, { fence: String(fence) })
}

/**
 * Simulates the accounting service and its books (`accounting.jsonl`). Half of `pauseMs` passes before the booking
 * and half after it, so that a run can be killed before or after it.
 *
 * The service refuses a payment with a lower `fence` than one that it has received. It books the payments of one
 * idempotency key once: the answer to a repeated request is that of the first one.
 */
export function accounting(
  dir: string,
  pauseMs: number,
  fence?: bigint,
): (payment: Payment, token: string) => Promise<void> {
  const there = Math.floor(pauseMs / 2)
  return async (payment, token) => {
    // Each run sends the same key for an invoice, because an invoice is paid once.
    const key = payment.invoice
    if (there > 0) await setTimeout(there)
    await checkAccess(dir, token)
    // A real service does this and the booking in one transaction.
    const lines = await readBooks(dir)
    if (fence !== undefined) checkFence(lines, fence)
    const first = lines.find((line) => line.key === key)
    const line = { key, ...payment, ...(fence !== undefined && { fence: String(fence) }) }
    if (first === undefined) await append(dir, line)
    else if (first.transaction !== payment.transaction || first.cents !== payment.cents)
      throw new Error(`the accounting service has booked another payment with the key ${key}`)
    if (pauseMs > 0) await setTimeout(pauseMs - there)
  }
}

/** Throws if the service has received a higher fence. */
function checkFence(lines: Line[], fence: bigint): void {
  if (lines.some((line) => BigInt(line.fence ?? 0) > fence))
    throw new Error('the accounting service refuses this run: a later run has begun')
}

async function readBooks(dir: string): Promise<Line[]> {
  const text = await readFile(path(dir), 'utf8').catch((error) => {
    if (codeOf(error) === 'ENOENT') return ''
    throw error
  })
  return text.split('\n').flatMap((line) => (line === '' ? [] : [JSON.parse(line) as Line]))
}

const append = (dir: string, line: Line) => appendFile(path(dir), `${JSON.stringify(line)}\n`)
