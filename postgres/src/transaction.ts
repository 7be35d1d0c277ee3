import { type Client, placeOf } from './client.js'
import { delay, monotonic } from './clock.js'
import { codeOf, SQLSTATE } from './errors.js'
import { lockKey } from './key.js'
import { transactionRequest } from './options.js'
import { contention } from './shared.js'
import { lockTransaction } from './sql.js'
import type { PostgresClient, TransactionLockOptions } from './types.js'

/** The pauses between two attempts, in milliseconds: they double. */
const FIRST_PAUSE = 10
const LONGEST_PAUSE = 250

/**
 * Acquires the lock of a name for the transaction that `client` is in, which it ends with. It excludes the locks that
 * {@link postgresLocks} gives under that name, and no pooler can break it. Nothing is written to the table: there is no
 * token, and nobody can say who holds it.
 *
 * @param client A client of `pg` after `BEGIN`.
 * @param options A name stands for `{ name }`.
 * @throws `LockError` `E_LOCK_CONTENTION` if somebody holds it for longer than `timeout`, 0 ms by default; the transaction
 *   goes on. `ERR_INVALID_STATE` if there is no transaction.
 * @example
 * await client.query('BEGIN')
 * await lockInTransaction(client, 'reconcile')
 */
export async function lockInTransaction(
  client: PostgresClient,
  options?: string | TransactionLockOptions,
): Promise<void> {
  const { name, message, timeout, signal } = transactionRequest(client, options)
  const end = monotonic() + timeout
  let wake = () => {}
  const onAbort = () => wake()
  signal?.addEventListener('abort', onAbort)
  try {
    for (let pause = FIRST_PAUSE; ; pause = Math.min(pause * 2, LONGEST_PAUSE)) {
      signal?.throwIfAborted()
      if (await attempt(client, lockKey(name))) return
      const left = end - monotonic()
      if (left <= 0) {
        const path = `${placeOf(client as Client)}#${encodeURIComponent(name)}`
        throw contention(message, { path, reason: 'a session or a transaction of the database holds it' })
      }
      const aborted = new Promise<void>((resolve) => {
        wake = resolve
      })
      await Promise.race([delay(Math.min(pause, left)), aborted])
    }
  } finally {
    signal?.removeEventListener('abort', onAbort)
  }
}

async function attempt(client: PostgresClient, key: bigint): Promise<boolean> {
  try {
    const results: unknown = await client.query(lockTransaction(key))
    const { rows } = (results as { rows: { answer: string }[] }[]).at(-1) ?? { rows: [] }
    return rows[0]?.answer === 'true'
  } catch (error) {
    if (codeOf(error) !== SQLSTATE.noTransaction) throw error
    const message = 'The client is in no transaction, with which the lock would end: BEGIN comes first'
    throw Object.assign(new Error(message), { code: 'ERR_INVALID_STATE', cause: error })
  }
}
