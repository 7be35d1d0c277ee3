import assert from 'node:assert/strict'
import { test } from 'node:test'
import { parseBank } from '../src/csv/bank.js'
import { parseInvoices } from '../src/csv/invoices.js'
import { parseCsv } from '../src/csv/parse.js'

const fields = (text: string) => parseCsv(text, 't.csv').map((row) => row.fields)

test('parseCsv reads plain and quoted fields', () => {
  assert.deepEqual(fields('a,b\n1,2\n'), [
    ['a', 'b'],
    ['1', '2'],
  ])
  assert.deepEqual(fields('"a, b","say ""x""",""'), [['a, b', 'say "x"', '']])
  assert.deepEqual(fields('a,"two\r\nlines",c'), [['a', 'two\r\nlines', 'c']])
  assert.deepEqual(fields('a,\n,b'), [
    ['a', ''],
    ['', 'b'],
  ])
})

test('parseCsv accepts CRLF, a byte order mark and empty lines', () => {
  assert.deepEqual(fields('\uFEFFa\r\n\r\nb'), [['a'], ['b']])
  assert.deepEqual(fields('""\n'), [['']])
  assert.deepEqual(fields('a,'), [['a', '']])
  assert.deepEqual(fields(''), [])
})

test('parseCsv reads a field of 1.5 million characters', () => {
  const long = 'x""y'.repeat(500_000)
  assert.equal(fields(`"${long}"`)[0]?.[0]?.length, 1_500_000)
})

test('a row has the number of its first line', () => {
  assert.deepEqual(
    parseCsv('h\n"a\nb"\n\nc\n', 't.csv').map((row) => row.line),
    [1, 2, 5],
  )
})

test('parseCsv refuses malformed text with its line number', () => {
  assert.throws(() => fields('a\n"b'), { message: 't.csv:2: a quoted field is never closed' })
  assert.throws(() => fields('"a\nb"c'), { message: 't.csv:1: text after the closing quote of a field' })
  assert.throws(() => fields('a\nb"c'), { message: /^t\.csv:2: a quote or a bare carriage return/ })
  assert.throws(() => fields('a\rb'), { message: /^t\.csv:1: a quote or a bare carriage return/ })
})

const bank = (row: string) => parseBank(`id,date,amount,text\n${row}`, 'bank.csv')

test('parseBank checks the fields of a row', () => {
  assert.deepEqual(bank('T1,2026-02-28,-12.50,"a, b"'), [
    { id: 'T1', date: '2026-02-28', cents: -1250, text: 'a, b' },
  ])
  assert.throws(() => bank('T1,2026-02-28,1.00'), { message: 'bank.csv:2: 3 fields instead of 4' })
  assert.throws(() => bank('T1,2026-02-30,1.00,x'), { message: /^bank\.csv:2: date/ })
  assert.throws(() => bank('T1,2026-02-28,1.5,x'), { message: /^bank\.csv:2: amount/ })
  assert.throws(() => bank(',2026-02-28,1.00,x'), { message: /^bank\.csv:2: the transaction has no id/ })
  assert.throws(() => bank('T1,2026-02-28,1.00,x\nT1,2026-02-28,1.00,x'), {
    message: /^bank\.csv:3: .* twice/,
  })
})

test('parseInvoices requires all columns, in any order', () => {
  assert.deepEqual(parseInvoices('amount,number,customer\n5.00,inv-1,A', 'i.csv'), [
    { number: 'INV-1', customer: 'A', cents: 500 },
  ])
  assert.throws(() => parseInvoices('number,amount\n', 'i.csv'), { message: /^i\.csv:1: the header/ })
  assert.throws(() => parseInvoices('', 'i.csv'), { message: 'i.csv:1: the file is empty' })
})

test('parseInvoices refuses invoices that no payment can match', () => {
  const invoice = (row: string) => () => parseInvoices(`number,customer,amount\n${row}`, 'i.csv')
  assert.throws(invoice('INV 1,A,1.00'), { message: /^i\.csv:2: invoice number "INV 1"/ })
  assert.throws(invoice('INV-1,A,0.00'), { message: /^i\.csv:2: amount/ })
  assert.throws(invoice('INV-1,A,1.00\ninv-1,B,2.00'), { message: /^i\.csv:3: invoice INV-1 is there twice/ })
})
