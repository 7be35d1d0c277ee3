import type { LockStatus } from 'reconcile-lock'
import { formatCents } from '../money.js'
import type { Payment } from '../state/payment.js'

export function describe({ invoice, transaction, cents }: Payment): string {
  return `${invoice} ${formatCents(cents)} by ${transaction}`
}

/** What to say of a payment of which nobody knows whether it arrived. */
export function needsLook(payment: Payment): string {
  return (
    `${describe(payment)}: needs a look by a person before it is posted again\n` +
    `  then: reconcile --execute --resolve ${payment.invoice}=posted (or =retry if it did not arrive)`
  )
}

/** What to say of a posting that was begun. A live run has one under way, which is nothing to worry about. */
export function begun(payment: Payment, state: LockStatus['state']): string {
  return state === 'held' ? `in progress: ${payment.invoice}` : needsLook(payment)
}
