// Runs with a lock on PostgreSQL, whose URL the environment gives.
import assert from 'node:assert/strict'
import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { postgresLocks } from 'reconcile-lock/postgres'
import { accounting, raiseFence } from '../src/accounting.js'
import { accessToken } from '../src/token/access-token.js'
import { appears, booked, dataDirectory, start, tool } from './tool.js'

const url = process.env.RECONCILE_TEST_POSTGRES ?? ''
const withServer = { timeout: 60_000, skip: url === '' && 'RECONCILE_TEST_POSTGRES is not set' }

const run = (dir: string, ...more: string[]) => ['--execute', '--dir', dir, '--lock-url', url, ...more]
const payment = (invoice: string) => ({ invoice, transaction: 'T', cents: 1 })

/** Ends the session of the run that holds the lock. */
async function takesAway(t: TestContext): Promise<void> {
  const locks = postgresLocks({ connectionString: url })
  t.after(() => locks.close())
  assert.equal(await locks.breakLock({ force: true }), true)
}

async function fences(dir: string, file: string): Promise<string[]> {
  const lines = (await readFile(join(dir, file), 'utf8')).trimEnd().split('\n')
  return [...new Set(lines.map((line) => JSON.parse(line).fence))]
}

test('one of two concurrent runs pays, the other is refused', withServer, async (t) => {
  const dir = await dataDirectory(t, 3)
  const outcomes = await Promise.all([0, 1].map(() => tool(t, ...run(dir, '--pause-ms', '1500'))))
  const [winner, loser] = outcomes.sort((a, b) => Number(a.code) - Number(b.code))
  assert.deepEqual([winner?.code, winner?.stderr], [0, ''])
  assert.deepEqual(loser, { code: 75, stdout: '', stderr: 'Another reconcile run is in progress\n' })
  assert.deepEqual(await booked(dir), ['INV-1', 'INV-2', 'INV-3'])
  assert.ok(!(await readdir(dir)).includes('.xero-reconcile-lock.json'))
})

test('log and service record the token, which grows per run', withServer, async (t) => {
  const tokens: bigint[] = []
  for (const _ of ['earlier', 'later']) {
    const dir = await dataDirectory(t, 2)
    assert.equal((await tool(t, ...run(dir))).code, 0)
    const [fence = '', ...more] = await fences(dir, 'audit.log')
    assert.deepEqual([more, await fences(dir, 'accounting.jsonl')], [[], [fence]])
    tokens.push(BigInt(fence))
  }
  const [earlier = 0n, later = 0n] = tokens
  assert.ok(later > earlier && earlier > 0n)
})

test('a run that loses its lock finishes the current payment', withServer, async (t) => {
  const dir = await dataDirectory(t, 50)
  const lost = start(t, ...run(dir, '--pause-ms', '400'))
  await appears(lost, join(dir, 'audit.log'), 'intent')
  await takesAway(t)
  const { code, stderr } = await lost.outcome
  assert.equal(code, 74)
  assert.match(stderr, /^lost the lock .+: its session has ended .+\n$/)
  const done = await booked(dir)
  assert.ok(done.length > 0 && done.length < 5, `${done.length} booked`)
  const { stdout } = await tool(t, 'status', '--dir', dir, '--lock-url', url)
  assert.match(stdout, /^lock: free/)
  assert.doesNotMatch(stdout, /a person has to check it/)
  assert.equal((await tool(t, ...run(dir))).code, 0)
  assert.equal(new Set(await booked(dir)).size, 50)
  assert.equal((await booked(dir)).length, 50)
})

test('the service refuses a late payment of a lost run', withServer, async (t) => {
  const dir = await dataDirectory(t, 2)
  const lost = start(t, ...run(dir, '--pause-ms', '8000'))
  await appears(lost, join(dir, 'audit.log'), 'intent')
  await takesAway(t)
  const later = await tool(t, ...run(dir))
  assert.equal(later.code, 0)
  assert.match(later.stderr, /^INV-1 .*a person has to check it/m)
  assert.equal((await lost.outcome).code, 74)
  assert.deepEqual(await booked(dir), ['INV-2'])
})

test('a run without payments makes the service refuse earlier ones', withServer, async (t) => {
  const dir = await dataDirectory(t, 1)
  const lost = start(t, ...run(dir, '--pause-ms', '8000'))
  await appears(lost, join(dir, 'audit.log'), 'intent')
  await takesAway(t)
  assert.match((await tool(t, ...run(dir))).stdout, /^0 of 0 posted, .* 1 held back for a person$/m)
  assert.equal((await lost.outcome).code, 74)
  assert.deepEqual(await booked(dir), [])
  assert.equal((await tool(t, ...run(dir, '--resolve', 'INV-1=retry'))).code, 0)
  assert.deepEqual(await booked(dir), ['INV-1'])
})

test('a killed run is stale, and the next takes over', withServer, async (t) => {
  const dir = await dataDirectory(t, 2)
  const killed = start(t, ...run(dir, '--pause-ms', '3600000'))
  await appears(killed, join(dir, 'audit.log'), 'intent')
  const where = ['--dir', dir, '--lock-url', url]
  assert.match((await tool(t, 'status', ...where)).stdout, /^lock: held .*\n.*\nin progress: INV-1$/m)
  assert.match((await tool(t, ...where)).stdout, /^in progress: INV-1$/m)
  killed.child.kill('SIGKILL')
  await killed.outcome
  const next = await tool(t, ...run(dir))
  assert.equal(next.code, 0)
  assert.match(next.stderr, new RegExp(`^took over the lock of process ${killed.child.pid}: .+`, 'm'))
  assert.deepEqual(await booked(dir), ['INV-2'])
})

test('an unreachable database exits 1 and posts nothing', async (t) => {
  const dir = await dataDirectory(t, 1)
  const nowhere = 'postgres://keeper:secret@127.0.0.1:1/ledger'
  const { code, stderr } = await tool(t, '--execute', '--dir', dir, '--lock-url', nowhere)
  assert.deepEqual([code, stderr], [1, 'connect ECONNREFUSED 127.0.0.1:1\n'])
  assert.deepEqual(await booked(dir), [])
})

test('the service refuses a lower fence and accepts the same', async (t) => {
  const dir = await dataDirectory(t, 0)
  const token = await accessToken(dir)
  const refused = { message: /a later run has begun/ }
  for (const invoice of ['A', 'B']) await accounting(dir, 0, 10n)(payment(invoice), token)
  await assert.rejects(accounting(dir, 0, 9n)(payment('C'), token), refused)
  await raiseFence(dir, 11n)
  await assert.rejects(accounting(dir, 0, 10n)(payment('C'), token), refused)
  await assert.rejects(raiseFence(dir, 10n), refused)
  await accounting(dir, 0, 11n)(payment('D'), token)
  assert.deepEqual(await booked(dir), ['A', 'B', 'D'])
})
