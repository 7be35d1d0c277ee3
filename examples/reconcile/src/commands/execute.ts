import { accounting } from '../accounting.js'
import type { Resolution } from '../cli/args.js'
import { describe, needsLook } from '../cli/describe.js'
import { StopRequest } from '../cli/stop.js'
import { DataError, exitCode } from '../errors.js'
import { readInput } from '../input.js'
import { match } from '../matching/match.js'
import { Books } from '../state/books.js'
import { acquireLock, releaseLock } from '../state/lock.js'
import { accessToken } from '../token/access-token.js'

export interface ExecuteOptions {
  dir: string
  pauseMs: number
  resolutions: Resolution[]
}

/** Posts what matches, as the only run in its directory, and gives the exit code. */
export async function execute(options: ExecuteOptions): Promise<number> {
  const stop = new StopRequest()
  let held = false
  try {
    const { takenOver } = await acquireLock(options.dir)
    held = true
    if (takenOver) {
      const who = takenOver.holder ? `process ${takenOver.holder.pid}` : 'an unknown process'
      console.error(`took over the lock of ${who}: ${takenOver.reason}`)
    }
    const books = await Books.open(options.dir)
    try {
      return await postAll(books, options, stop)
    } finally {
      await books.close()
    }
  } finally {
    if (held) await releaseLock(options.dir)
  }
}

async function postAll(books: Books, options: ExecuteOptions, stop: StopRequest): Promise<number> {
  const { dir, pauseMs, resolutions } = options
  const { transactions, invoices } = await readInput(dir)
  await resolveAll(books, resolutions)
  for (const payment of books.unsettled) console.error(needsLook(payment))
  const { payments, unmatched } = match(transactions, invoices, books.settledOrDoubtful)
  const send = accounting(dir, pauseMs)
  let count = 0
  for (const payment of payments) {
    // Before the intent is logged: without a token nothing goes out.
    const token = await accessToken(dir)
    if (stop.exitCode !== undefined) break
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
  // All or none: a mistyped number must not leave half of an answer behind.
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
