import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type AuditEvent, parseAudit } from '../src/state/audit-event.js'
import { check } from '../src/state/check.js'
import { parseState } from '../src/state/state-file.js'

const payment = (invoice: string) => ({ invoice, transaction: `T-${invoice}`, cents: 100 })
const event = (name: AuditEvent['event'], invoice: string): AuditEvent => ({
  event: name,
  at: '2026-01-01T00:00:00.000Z',
  pid: 1,
  ...payment(invoice),
})
const clean = { unsettled: [], unlogged: [], unsaved: [] }

test('check reports nothing for a complete log', () => {
  assert.deepEqual(check([], []), clean)
  assert.deepEqual(check([payment('A')], [event('intent', 'A'), event('posted', 'A')]), clean)
})

test('check reports an intent without a result as unsettled', () => {
  const events = [event('intent', 'A'), event('posted', 'A'), event('intent', 'B')]
  assert.deepEqual(check([payment('A')], events), { ...clean, unsettled: [payment('B')] })
})

test('check reports a payment missing in the log as unlogged', () => {
  assert.deepEqual(check([payment('A')], [event('intent', 'A')]), { ...clean, unlogged: [payment('A')] })
})

test('check reports a payment missing in the state as unsaved', () => {
  const events = [event('intent', 'A'), event('posted', 'A')]
  assert.deepEqual(check([], events), { ...clean, unsaved: [payment('A')] })
})

test('a retry settles an intent until the next intent', () => {
  const events = [event('intent', 'A'), event('retry', 'A')]
  assert.deepEqual(check([], events), clean)
  assert.deepEqual(check([], [...events, event('intent', 'A')]).unsettled, [payment('A')])
})

test('a torn last line is ignored, an earlier one refused', () => {
  const line = `${JSON.stringify(event('intent', 'A'))}\n`
  assert.deepEqual(parseAudit(`${line}{"event":"pos`, 'audit.log'), {
    events: [event('intent', 'A')],
    complete: line.length,
  })
  assert.throws(() => parseAudit(`${line}{"event":\n${line}`, 'audit.log'), {
    message: 'audit.log:2: not JSON',
  })
  assert.throws(() => parseAudit('{}\n', 'audit.log'), { message: /^audit\.log:1: not a line/ })
})

test('parseState refuses an invalid state file', () => {
  assert.throws(() => parseState('{'), { message: 'state.json: not JSON' })
  assert.throws(() => parseState('null'), { message: /version 1/ })
  assert.throws(() => parseState('{"version":2,"posted":[]}'), { message: /version 1/ })
  assert.throws(() => parseState('{"version":1,"posted":[{}]}'), { message: /not a list of payments/ })
})
