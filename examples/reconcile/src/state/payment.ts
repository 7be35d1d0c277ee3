/** The payment of an invoice by a transaction. */
export interface Payment {
  invoice: string
  transaction: string
  cents: number
}

/** Whether a value from a file is a payment. */
export function isPayment(value: unknown): value is Payment {
  if (typeof value !== 'object' || value === null) return false
  const { invoice, transaction, cents } = value as Partial<Record<keyof Payment, unknown>>
  return typeof invoice === 'string' && typeof transaction === 'string' && Number.isSafeInteger(cents)
}
