import assert from 'node:assert/strict'
import { test } from 'node:test'
import { formatCents, parseCents } from '../src/money.js'

test('parseCents returns whole cents', () => {
  assert.equal(parseCents('1250.00'), 125000)
  assert.equal(parseCents('12'), 1200)
  assert.equal(parseCents('+0.07'), 7)
  assert.equal(parseCents('-0.29'), -29)
  assert.ok(Object.is(parseCents('-0.00'), 0))
  // As a float this would be 113.99999999999999 cents.
  assert.equal(parseCents('1.14'), 114)
})

test('parseCents refuses text that is not an amount', () => {
  for (const text of ['', '.5', '1.', '1.5', '1.234', '1,50', '1,250.00', '1e3', '0x10', '--1', ' 1', 'NaN'])
    assert.equal(parseCents(text), undefined, text)
  assert.equal(parseCents('90071992547409.92'), undefined)
  assert.equal(parseCents('90071992547409.91'), Number.MAX_SAFE_INTEGER)
})

test('formatCents restores the parsed text', () => {
  for (const text of ['0.00', '0.07', '-0.29', '1250.00', '-48.20'])
    assert.equal(formatCents(parseCents(text) ?? Number.NaN), text)
})
