import { accounting, raiseFence } from '../accounting.js'
import type { Resolution } from '../cli/args.js'
import { describe, needsDecision } from '../cli/describe.js'
import { StopRequest } from '../cli/stop.js'
import { DataError, exitCode } from '../errors.js'
import { readInput } from '../input.js'
import { match } from '../matching/match.js'
import { Books } from '../state/books.js'
import { acquireRunLock, type Place, type RunLock } from '../state/run-lock.js'
import { accessToken } from '../token/access-token.js'

export interface ExecuteOptions extends Place {
  pauseMs: number
  resolutions: Resolution[]
}

/** Posts the matches under the lock, and returns the exit code. */
export async function execute(options: ExecuteOptions): Promise<number> {
  const stop = new StopRequest()
  const lock = await acquireRunLock(options)
  try {
    const { takenOver } = lock
    if (takenOver) {
      const holder = takenOver.holder ? `process ${takenOver.holder.pid}` : 'an unknown process'
      console.error(`took over the lock of ${holder}: ${takenOver.reason}`)
    }
    if (lock.token !== undefined) await raiseFence(options.dir, lock.token)
    const books = await Books.open(options.dir, lock.token)
    try {
      return await postAll(books, options, lock, stop)
    } finally {
      await books.close()
    }
  } finally {
    await lock.release()
  }
}

async function postAll(
  books: Books,
  options: ExecuteOptions,
  lock: RunLock,
  stop: StopRequest,
): Promise<number> {
  const { dir, pauseMs, resolutions } = options
  const { transactions, invoices } = await readInput(dir)
  await resolveAll(books, resolutions)
  for (const payment of books.unsettled) console.error(needsDecision(payment))
  const { payments, unmatched } = match(transactions, invoices, books.settledOrDoubtful)
  const send = accounting(dir, pauseMs, lock.token)
  let count = 0
  for (const payment of payments) {
    // Before the intent is logged: without a token no payment is posted.
    const token = await accessToken(dir)
    if (stop.exitCode !== undefined) break
    lock.signal.throwIfAborted()
    await books.post(payment, (payment) => send(payment, token))
    count += 1
    console.log(`posted ${describe(payment)}`)
  }
  for (const { transaction, reason } of unmatched) console.log(`no match: ${transaction.id}: ${reason}`)
  const doubtful = books.unsettled.length > 0 ? `, ${books.unsettled.length} held back for a person` : ''
  console.log(`${count} of ${payments.length} posted, ${unmatched.length} without a match${doubtful}`)
  return stop.exitCode ?? exitCode.ok
}

async function resolveAll(books: Books, resolutions: Resolution[]): Promise<void> {
  // All or none: a mistyped number must not apply a part of the decisions.
  const found = resolutions.map(({ invoice, as }) => {
    const payment = books.unsettled.find((candidate) => candidate.invoice === invoice)
    if (!payment) throw new DataError(`--resolve ${invoice}: no run died while posting it`)
    return { payment, as }
  })
  for (const { payment, as } of found) {
    await books.resolve(payment, as)
    console.log(`settled ${describe(payment)}: ${as}`)
  }
}
