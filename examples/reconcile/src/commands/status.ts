import { begun } from '../cli/describe.js'
import { readAudit } from '../state/audit-log.js'
import { check } from '../state/check.js'
import { inspectRunLock, type Place } from '../state/run-lock.js'
import { readState } from '../state/state-file.js'

/** Prints the lock and the number of postings. It does not disturb a run. */
export async function status(place: Place): Promise<void> {
  const { dir } = place
  const { state, reason } = await inspectRunLock(place)
  // The log before the state: a posting that ends in between must not be reported as doubtful.
  const events = await readAudit(dir)
  const posted = await readState(dir)
  const { unsettled, unsaved } = check(posted, events)
  console.log(`lock: ${state} (${reason})`)
  console.log(`posted: ${posted.length + unsaved.length}`)
  for (const payment of unsettled) console.log(begun(payment, state))
}
