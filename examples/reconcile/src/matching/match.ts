import type { Transaction } from '../csv/bank.js'
import type { Invoice } from '../csv/invoices.js'
import { formatCents } from '../money.js'
import type { Payment } from '../state/payment.js'
import { referencesIn } from './reference.js'

export interface Unmatched {
  transaction: Transaction
  reason: string
}

export interface Matching {
  payments: Payment[]
  unmatched: Unmatched[]
}

/**
 * Pairs each transaction with the one invoice that its text names and whose amount it has, to the cent.
 * It skips the invoices and transactions in `settled`, and leaves doubtful ones to a person.
 */
export function match(transactions: Transaction[], invoices: Invoice[], settled: Payment[]): Matching {
  const byNumber = new Map(invoices.map((invoice) => [invoice.number, invoice]))
  const paid = new Set(settled.map((payment) => payment.invoice))
  const used = new Set(settled.map((payment) => payment.transaction))
  const payments: Payment[] = []
  const unmatched: Unmatched[] = []
  for (const transaction of transactions) {
    if (used.has(transaction.id)) continue
    const found = pair(transaction, byNumber, paid)
    if (typeof found === 'string') {
      unmatched.push({ transaction, reason: found })
      continue
    }
    paid.add(found.number)
    payments.push({ invoice: found.number, transaction: transaction.id, cents: found.cents })
  }
  return { payments, unmatched }
}

/** The invoice that a transaction pays, or why there is none. */
function pair(transaction: Transaction, invoices: Map<string, Invoice>, paid: Set<string>): Invoice | string {
  if (transaction.cents <= 0) return 'not money that came in'
  const named = [...referencesIn(transaction.text)].flatMap((word) => invoices.get(word) ?? [])
  const [first] = named
  if (!first) return 'names no known invoice'
  // Before the check for earlier payments: the order of the rows must not decide a doubtful case.
  const [invoice, other] = named.filter((candidate) => candidate.cents === transaction.cents)
  if (!invoice)
    return `${first.number} is about ${formatCents(first.cents)}, not ${formatCents(transaction.cents)}`
  if (other) return `could pay ${invoice.number} or ${other.number}`
  return paid.has(invoice.number) ? `${invoice.number} is paid already` : invoice
}
