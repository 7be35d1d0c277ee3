import type { TransactionLockOptions } from '../../postgres.js'
import { onAbort } from '../shared/abort.js'
import { delay, monotonic } from '../shared/clock.js'
import { contention } from '../shared/errors.js'
import { type Client, serverUrlOf } from './client.js'
import { coded, codeOf, SQLSTATE } from './errors.js'
import { halves, lockKey } from './key.js'
import { unsupported } from './lock-table.js'
import { transactionRequest } from './options.js'
import { pathOf, standby } from './session.js'
import { lockTransaction } from './sql.js'

/** The pauses between two attempts, in milliseconds; they double. */
const FIRST_PAUSE_MS = 10
const MAX_PAUSE_MS = 250

/** See `postgres.d.ts`. */
export async function lockInTransaction(
  client: Client,
  ...args: [options?: string | TransactionLockOptions]
): Promise<void> {
  const { name, message, timeout, signal } = transactionRequest(client, args)
  const end = monotonic() + timeout
  const path = pathOf({ serverUrl: serverUrlOf(client) }, name)
  let wake = () => {}
  signal?.throwIfAborted()
  const removeCallback = signal && onAbort(signal, () => wake())
  try {
    for (let pause = FIRST_PAUSE_MS; ; pause = Math.min(pause * 2, MAX_PAUSE_MS)) {
      signal?.throwIfAborted()
      const isAcquired = await attempt(client, lockKey(name), path)
      signal?.throwIfAborted()
      if (isAcquired) return
      const left = end - monotonic()
      if (left <= 0)
        throw contention(message, { path, reason: 'a session or a transaction of the database holds it' })
      const aborted = new Promise<void>((resolve) => {
        wake = resolve
      })
      await Promise.race([delay(Math.min(pause, left)), aborted])
    }
  } finally {
    removeCallback?.()
  }
}

async function attempt(client: Client, key: bigint, path: string): Promise<boolean> {
  let answer: string | undefined
  try {
    const results: unknown = await client.query(lockTransaction(key, halves(key)))
    const { rows } = (results as { rows: { answer: string }[] }[]).at(-1) ?? { rows: [] }
    answer = rows[0]?.answer
  } catch (error) {
    if (codeOf(error) !== SQLSTATE.noTransaction) throw coded(error, SQLSTATE.connectionFailure)
    const message = 'The client is not in a transaction, whose end releases the lock: run BEGIN first'
    throw Object.assign(new Error(message), { code: 'ERR_INVALID_STATE', cause: error })
  }
  if (answer === 'standby') throw standby(serverUrlOf(client))
  if (answer === 'unsupported') throw unsupported(path)
  return answer === 'true'
}
