import { begun, describe } from '../cli/describe.js'
import { readInput } from '../input.js'
import { match } from '../matching/match.js'
import { readAudit } from '../state/audit-log.js'
import { check } from '../state/check.js'
import { inspectRunLock, type Place } from '../state/run-lock.js'
import { readState } from '../state/state-file.js'

/** Prints the postings of `--execute`. It acquires no lock and writes nothing. */
export async function dryRun(place: Place): Promise<void> {
  const { dir } = place
  const { transactions, invoices } = await readInput(dir)
  const { state } = await inspectRunLock(place)
  const events = await readAudit(dir)
  const posted = await readState(dir)
  const { unsettled, unsaved } = check(posted, events)
  const { payments, unmatched } = match(transactions, invoices, [...posted, ...unsaved, ...unsettled])
  for (const payment of payments) console.log(`would post ${describe(payment)}`)
  for (const { transaction, reason } of unmatched) console.log(`no match: ${transaction.id}: ${reason}`)
  for (const payment of unsettled) console.log(begun(payment, state))
  console.log(`${payments.length} to post, ${unmatched.length} without a match; nothing was posted`)
}
