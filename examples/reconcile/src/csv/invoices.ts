import { isReference, normalise } from '../matching/reference.js'
import { parseCents } from '../money.js'
import { parseTable } from './table.js'

export interface Invoice {
  /** As people write it on transfers, in upper case. */
  number: string
  customer: string
  cents: number
}

export function parseInvoices(text: string, source: string): Invoice[] {
  const seen = new Set<string>()
  return parseTable(text, source, ['number', 'customer', 'amount']).map(({ values, fail }) => {
    const number = normalise(values.number)
    const cents = parseCents(values.amount)
    if (!isReference(number))
      fail(`invoice number ${JSON.stringify(values.number)}: expected letters and digits, joined by - or /`)
    if (seen.has(number)) fail(`invoice ${number} is there twice`)
    if (cents === undefined || cents <= 0)
      return fail(`amount ${JSON.stringify(values.amount)}: expected a positive amount like 1250.00`)
    seen.add(number)
    return { number, customer: values.customer, cents }
  })
}
