import { parseCents } from '../money.js'
import { parseTable } from './table.js'

export interface Transaction {
  id: string
  date: string
  /** Positive for money that came in. */
  cents: number
  text: string
}

export function parseBank(text: string, source: string): Transaction[] {
  const seen = new Set<string>()
  return parseTable(text, source, ['id', 'date', 'amount', 'text']).map(({ values, fail }) => {
    const cents = parseCents(values.amount)
    if (cents === undefined)
      return fail(`amount ${JSON.stringify(values.amount)}: expected digits like 1250.00`)
    if (!values.id) fail('the transaction has no id')
    if (seen.has(values.id)) fail(`transaction ${values.id} is there twice`)
    if (!isDate(values.date)) fail(`date ${JSON.stringify(values.date)}: expected YYYY-MM-DD`)
    seen.add(values.id)
    return { id: values.id, date: values.date, cents, text: values.text }
  })
}

function isDate(text: string): boolean {
  if (!/^\d{4}-\d\d-\d\d$/.test(text)) return false
  const date = new Date(`${text}T00:00:00Z`)
  // `Date` reads February 30th as March 2nd.
  return !Number.isNaN(date.getTime()) && date.toISOString().startsWith(text)
}
