import assert from 'node:assert/strict'
import { appendFile, readdir, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { accounting } from '../src/accounting.js'
import { accessToken } from '../src/token/access-token.js'
import { appears, booked, dataDirectory, start, tool } from './tool.js'

const limit = { timeout: 60_000 }
const intent = (invoice: string, transaction: string) =>
  `${JSON.stringify({ event: 'intent', at: '2026-01-01T00:00:00.000Z', pid: 1, invoice, transaction, cents: 100 })}\n`

test('a dry run writes nothing', limit, async (t) => {
  const dir = await dataDirectory(t, 2)
  const { code, stdout } = await tool(t, '--dir', dir)
  assert.equal(code, 0)
  assert.match(stdout, /^would post INV-1 1\.00 by T-1$/m)
  assert.deepEqual((await readdir(dir)).sort(), ['bank.csv', 'invoices.csv'])
})

test('a payment is posted only once', limit, async (t) => {
  const dir = await dataDirectory(t, 3)
  for (const count of [3, 0]) {
    const { code, stdout, stderr } = await tool(t, '--execute', '--dir', dir)
    assert.equal(code, 0, stderr)
    assert.match(stdout, new RegExp(`^${count} of ${count} posted, 0 without a match$`, 'm'))
  }
  assert.deepEqual(await booked(dir), ['INV-1', 'INV-2', 'INV-3'])
  const { stdout } = await tool(t, 'status', '--dir', dir)
  assert.match(stdout, /^lock: free/m)
  assert.match(stdout, /^posted: 3$/m)
})

test('a lost state file is restored from the log', limit, async (t) => {
  const dir = await dataDirectory(t, 3)
  await tool(t, '--execute', '--dir', dir)
  await rm(join(dir, 'state.json'))
  assert.match((await tool(t, '--execute', '--dir', dir)).stdout, /^0 of 0 posted/m)
  assert.deepEqual(await booked(dir), ['INV-1', 'INV-2', 'INV-3'])
})

test('wrong arguments exit 64, wrong data 65', limit, async (t) => {
  const wrong = await tool(t, '--exekute')
  assert.equal(wrong.code, 64)
  assert.match(wrong.stderr, /--exekute/)
  const dir = await dataDirectory(t, 2)
  await appendFile(join(dir, 'bank.csv'), 'T-3,2026-01-01,12,50,x\n')
  const bad = await tool(t, '--execute', '--dir', dir)
  assert.equal(bad.code, 65)
  assert.match(bad.stderr, /^bank\.csv:4: 5 fields instead of 4$/m)
  assert.deepEqual(await booked(dir), [])
  assert.match((await tool(t, 'status', '--dir', dir)).stdout, /^lock: free/m)
})

test('a missing directory exits 1', limit, async (t) => {
  const { code, stderr } = await tool(t, '--execute', '--dir', join(await dataDirectory(t, 1), 'none'))
  assert.equal(code, 1)
  assert.match(stderr, /ENOENT/)
})

test('a doubtful payment waits until a person settles it', limit, async (t) => {
  for (const [answer, expected] of [
    ['posted', ['INV-2']],
    ['retry', ['INV-2', 'INV-1']],
  ] as const) {
    const dir = await dataDirectory(t, 2)
    await writeFile(join(dir, 'audit.log'), `${intent('INV-1', 'T-1')}{"event":"po`)
    // Twice: later runs hold it back too.
    for (let round = 0; round < 2; round += 1) {
      const { code, stderr } = await tool(t, '--execute', '--dir', dir)
      assert.equal(code, 0, stderr)
      assert.match(stderr, /^INV-1 1\.00 by T-1: a person has to check it before it is posted again$/m)
    }
    assert.deepEqual(await booked(dir), ['INV-2'])
    const other = await tool(t, '--execute', '--dir', dir, '--resolve', 'INV-2=retry')
    assert.equal(other.code, 65)
    const settled = await tool(t, '--execute', '--dir', dir, '--resolve', `inv-1=${answer}`)
    assert.equal(settled.code, 0, settled.stderr)
    assert.equal(settled.stderr, '')
    assert.deepEqual(await booked(dir), expected)
    assert.match((await tool(t, 'status', '--dir', dir)).stdout, /^posted: 2$/m)
  }
})

test('a late request is not booked beside its retry', limit, async (t) => {
  const late = { invoice: 'INV-1', transaction: 'T-1', cents: 100 }
  for (const arrives of ['before', 'after']) {
    const dir = await dataDirectory(t, 1)
    await writeFile(join(dir, 'audit.log'), intent('INV-1', 'T-1'))
    const send = accounting(dir, 0)
    if (arrives === 'before') await send(late, await accessToken(dir))
    const { code, stderr } = await tool(t, '--execute', '--dir', dir, '--resolve', 'INV-1=retry')
    assert.deepEqual([code, stderr], [0, ''])
    if (arrives === 'after') await send(late, await accessToken(dir))
    assert.deepEqual(await booked(dir), ['INV-1'], arrives)
  }
})

test('another payment with a used key is refused', limit, async (t) => {
  const dir = await dataDirectory(t, 1)
  const first = { invoice: 'INV-1', transaction: 'T-9', cents: 100 }
  await accounting(dir, 0)(first, await accessToken(dir))
  const { code, stderr } = await tool(t, '--execute', '--dir', dir)
  assert.deepEqual(
    [code, stderr],
    [1, 'the accounting service has booked another payment with the key INV-1\n'],
  )
  assert.match((await tool(t, 'status', '--dir', dir)).stdout, /^INV-1 .*a person has to check it/m)
  assert.deepEqual(await booked(dir), ['INV-1'])
})

test('a second run is refused while the first one runs', limit, async (t) => {
  const dir = await dataDirectory(t, 2)
  const first = start(t, '--execute', '--dir', dir, '--pause-ms', '3600000')
  await appears(first, join(dir, 'audit.log'), 'intent')
  const second = await tool(t, '--execute', '--dir', dir)
  assert.equal(second.code, 75)
  assert.equal(second.stderr, 'Another reconcile run is in progress\n')
  const { stdout } = await tool(t, 'status', '--dir', dir)
  assert.match(stdout, /^lock: held/m)
  assert.match(stdout, /^in progress: INV-1$/m)
  const dry = await tool(t, '--dir', dir)
  assert.match(dry.stdout, /^would post INV-2 .*\nin progress: INV-1\n1 to post/m)
  first.child.kill('SIGKILL')
  await first.outcome
  assert.match((await tool(t, 'status', '--dir', dir)).stdout, /^lock: stale/m)
})

test('the next run takes over and names the killed one', limit, async (t) => {
  const dir = await dataDirectory(t, 2)
  const killed = start(t, '--execute', '--dir', dir, '--pause-ms', '3600000')
  await appears(killed, join(dir, 'audit.log'), 'intent')
  killed.child.kill('SIGKILL')
  await killed.outcome
  const { code, stderr } = await tool(t, '--execute', '--dir', dir)
  assert.equal(code, 0, stderr)
  assert.match(stderr, new RegExp(`^took over the lock of process ${killed.child.pid}: .+`, 'm'))
  assert.match(stderr, /^INV-1 .*a person has to check it/m)
  assert.deepEqual(await booked(dir), ['INV-2'])
})

test('a run whose lock file is removed posts no more', limit, async (t) => {
  const dir = await dataDirectory(t, 50)
  const lost = start(t, '--execute', '--dir', dir, '--pause-ms', '400')
  await appears(lost, join(dir, 'audit.log'), 'intent')
  await rm(join(dir, '.xero-reconcile-lock.json'))
  const { code, stderr } = await lost.outcome
  assert.equal(code, 74)
  assert.match(stderr, /^lost the lock .+ while holding it: the path no longer names a file; .+\n$/)
  assert.ok((await booked(dir)).length < 5)
})

test('SIGTERM ends a run after the current posting', limit, async (t) => {
  const dir = await dataDirectory(t, 50)
  const run = start(t, '--execute', '--dir', dir, '--pause-ms', '400')
  await appears(run, join(dir, 'audit.log'), 'intent')
  run.child.kill('SIGTERM')
  const { code, stdout } = await run.outcome
  assert.equal(code, 143)
  const done = await booked(dir)
  assert.ok(done.length > 0 && done.length < 50, `${done.length} booked`)
  assert.match(stdout, new RegExp(`^${done.length} of 50 posted`, 'm'))
  const status = await tool(t, 'status', '--dir', dir)
  assert.match(status.stdout, /^lock: free/m)
  assert.doesNotMatch(status.stdout, /a person has to check it/)
})
