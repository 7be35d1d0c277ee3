import { appendFile, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout } from 'node:timers/promises'
import { codeOf } from './errors.js'
import type { Payment } from './state/payment.js'
import { accepts } from './token/authority.js'

const books = (dir: string) => join(dir, 'accounting.jsonl')

/** Throws unless the accounting service accepts the token. */
export async function checkAccess(dir: string, token: string): Promise<void> {
  if (await accepts(dir, token)) return
  throw new Error('the accounting service does not accept our token; remove token.json to log in again')
}

/**
 * Simulates the accounting service: it books each request, also a repeated one, in its own books
 * (`accounting.jsonl`). Half of `pauseMs` passes before the booking and half after it, so that a run can be
 * killed before or after it.
 *
 * A `fence`, the token of a run's lock, is booked too: a run that has lost its lock meanwhile is refused.
 */
export function accounting(
  dir: string,
  pauseMs: number,
  fence?: bigint,
): (payment: Payment, token: string) => Promise<void> {
  const there = Math.floor(pauseMs / 2)
  return async (payment, token) => {
    if (there > 0) await setTimeout(there)
    await checkAccess(dir, token)
    // A real service does this and the booking in one transaction.
    if (fence !== undefined) await checkFence(dir, fence)
    const line = { ...payment, ...(fence !== undefined && { fence: String(fence) }) }
    await appendFile(books(dir), `${JSON.stringify(line)}\n`)
    if (pauseMs > 0) await setTimeout(pauseMs - there)
  }
}

/** Throws if a later run has booked something. */
async function checkFence(dir: string, fence: bigint): Promise<void> {
  const text = await readFile(books(dir), 'utf8').catch((error) => {
    if (codeOf(error) === 'ENOENT') return ''
    throw error
  })
  const fences = text.split('\n').flatMap((line) => (line === '' ? [] : [JSON.parse(line).fence ?? 0]))
  if (fences.some((other) => BigInt(other) > fence))
    throw new Error('the accounting service refuses a payment of this run: a later run has posted')
}
