/** That a transaction pays an invoice. */
export interface Payment {
  invoice: string
  transaction: string
  cents: number
}

/** Whether something read from a file is one. */
export function isPayment(value: unknown): value is Payment {
  if (typeof value !== 'object' || value === null) return false
  const { invoice, transaction, cents } = value as Partial<Record<keyof Payment, unknown>>
  return typeof invoice === 'string' && typeof transaction === 'string' && Number.isSafeInteger(cents)
}
