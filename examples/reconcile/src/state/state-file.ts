import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { codeOf, DataError } from '../errors.js'
import { replaceFile } from './durable.js'
import { isPayment, type Payment } from './payment.js'

const name = 'state.json'
const version = 1

/** The payments that were posted, oldest first; empty if there is no file. */
export async function readState(dir: string): Promise<Payment[]> {
  let text: string
  try {
    text = await readFile(join(dir, name), 'utf8')
  } catch (error) {
    if (codeOf(error) === 'ENOENT') return []
    throw error
  }
  return parseState(text)
}

export function parseState(text: string): Payment[] {
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch {
    throw new DataError(`${name}: not JSON`)
  }
  const state = (value ?? {}) as { version?: unknown; posted?: unknown }
  if (state.version !== version) throw new DataError(`${name}: not a state file of version ${version}`)
  if (!Array.isArray(state.posted) || !state.posted.every(isPayment))
    throw new DataError(`${name}: "posted" is not a list of payments`)
  return state.posted
}

export async function writeState(dir: string, posted: Payment[]): Promise<void> {
  await replaceFile(join(dir, name), `${JSON.stringify({ version, posted }, null, 2)}\n`)
}
