import type { AuditEvent } from './audit-event.js'
import type { Payment } from './payment.js'

export interface Findings {
  /** Begun, and they may or may not have arrived: posting them again could pay twice. */
  unsettled: Payment[]
  /** In the state file, but the run was killed before it wrote them to the log. */
  unlogged: Payment[]
  /** Posted by the log, but missing in the state file. */
  unsaved: Payment[]
}

/** Compares the state file with the audit log. Of each invoice only the last event counts. */
export function check(posted: Payment[], events: AuditEvent[]): Findings {
  const inState = new Set(posted.map((payment) => payment.invoice))
  const last = [...new Map(events.map((event) => [event.invoice, event])).values()]
  const begun = last.filter(({ event }) => event === 'intent')
  return {
    unsettled: begun.filter(({ invoice }) => !inState.has(invoice)).map(payment),
    unlogged: begun.filter(({ invoice }) => inState.has(invoice)).map(payment),
    unsaved: last.filter(({ event, invoice }) => event === 'posted' && !inState.has(invoice)).map(payment),
  }
}

function payment({ invoice, transaction, cents }: AuditEvent): Payment {
  return { invoice, transaction, cents }
}
