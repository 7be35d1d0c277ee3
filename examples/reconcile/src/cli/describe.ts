import type { LockStatus } from 'reconcile-lock'
import { formatCents } from '../money.js'
import type { Payment } from '../state/payment.js'

export function describe({ invoice, transaction, cents }: Payment): string {
  return `${invoice} ${formatCents(cents)} by ${transaction}`
}

/** The report on a payment that may or may not have arrived. */
export function needsDecision(payment: Payment): string {
  return (
    `${describe(payment)}: a person has to check it before it is posted again\n` +
    `  then: reconcile --execute --resolve ${payment.invoice}=posted (or =retry if it did not arrive, and cannot any more)`
  )
}

/** The report on a posting that was begun. If the lock is held, it is in progress. */
export function begun(payment: Payment, state: LockStatus['state']): string {
  return state === 'held' ? `in progress: ${payment.invoice}` : needsDecision(payment)
}
