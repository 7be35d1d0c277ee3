import { DataError } from '../errors.js'
import { isPayment, type Payment } from './payment.js'

/**
 * One line of the audit log. `intent` precedes the call to the accounting service and `posted` follows it;
 * `retry` means that a person has checked that the posting did not arrive and cannot arrive any more.
 */
export interface AuditEvent extends Payment {
  event: 'intent' | 'posted' | 'retry'
  at: string
  pid: number
  /** The source, if it is not the run itself: a person by `--resolve`, or the check against the state file. */
  by?: 'person' | 'check'
  /** The token of the run's lock, if it has one. A later run has a higher token. */
  fence?: string
}

/** The whole lines of a log. It omits a last line without its end: its run was killed while it wrote it. */
export function parseAudit(text: string, source: string): { events: AuditEvent[]; complete: number } {
  const complete = text.lastIndexOf('\n') + 1
  const lines = text.slice(0, complete).split('\n').slice(0, -1)
  return { events: lines.map((line, index) => parseLine(line, `${source}:${index + 1}`)), complete }
}

function parseLine(line: string, place: string): AuditEvent {
  let value: unknown
  try {
    value = JSON.parse(line)
  } catch {
    throw new DataError(`${place}: not JSON`)
  }
  const event = isPayment(value) ? (value as Payment & { event?: unknown }).event : undefined
  if (event !== 'intent' && event !== 'posted' && event !== 'retry')
    throw new DataError(`${place}: not a line of an audit log`)
  return value as AuditEvent
}
