import assert from 'node:assert/strict'
import { test } from 'node:test'
import { match } from '../src/matching/match.js'
import type { Payment } from '../src/state/payment.js'

const invoice = (number: string, cents: number) => ({ number, customer: '', cents })
const transfer = (id: string, cents: number, text: string) => ({ id, date: '2026-01-01', cents, text })
const invoices = [
  invoice('INV-1', 100),
  invoice('INV-10', 100),
  invoice('INV-2', 250),
  invoice('2024/7', 300),
]
const reasons = (...transactions: ReturnType<typeof transfer>[]) =>
  match(transactions, invoices, []).unmatched.map(({ reason }) => reason)
const paid = (text: string, cents = 100) =>
  match([transfer('T', cents, text)], invoices, []).payments.map((payment) => payment.invoice)

test('a payment needs the right number and amount', () => {
  assert.deepEqual(paid('for INV-1, thanks'), ['INV-1'])
  assert.deepEqual(paid('(inv-1)'), ['INV-1'])
  assert.deepEqual(paid('ref 2024/7.', 300), ['2024/7'])
  assert.deepEqual(reasons(transfer('T', 101, 'INV-1')), ['INV-1 is about 1.00, not 1.01'])
  assert.deepEqual(reasons(transfer('T', 100, 'hello')), ['names no known invoice'])
  assert.deepEqual(reasons(transfer('T', -100, 'INV-1')), ['not money that came in'])
})

test('a number inside a longer one does not match', () => {
  assert.deepEqual(paid('INV-10'), ['INV-10'])
  for (const text of ['INV-100', 'XINV-1', 'INV-1-B', 'INV-1/2']) assert.deepEqual(paid(text), [], text)
})

test('an ambiguous transaction is left to a person', () => {
  const both = transfer('T2', 100, 'INV-1 and INV-10')
  assert.deepEqual(reasons(both), ['could pay INV-1 or INV-10'])
  assert.deepEqual(reasons(transfer('T1', 100, 'INV-1'), both), ['could pay INV-1 or INV-10'])
  // Two numbers, but only one of them has the amount.
  assert.deepEqual(paid('INV-1 or INV-2', 250), ['INV-2'])
})

test('each invoice is paid once', () => {
  const twice = [transfer('T1', 100, 'INV-1'), transfer('T2', 100, 'INV-1')]
  const first = match(twice, invoices, [])
  assert.deepEqual(first.payments, [{ invoice: 'INV-1', transaction: 'T1', cents: 100 }])
  assert.deepEqual(
    first.unmatched.map(({ reason }) => reason),
    ['INV-1 is paid already'],
  )
  const second = match(twice, invoices, first.payments)
  assert.deepEqual(second.payments, [])
  assert.equal(second.unmatched.length, 1)
})

test('each transaction pays once', () => {
  const settled: Payment[] = [{ invoice: 'OLD-1', transaction: 'T1', cents: 100 }]
  assert.deepEqual(match([transfer('T1', 100, 'INV-1')], invoices, settled), { payments: [], unmatched: [] })
})
