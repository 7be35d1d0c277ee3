// A stress test of 32 clients, judged by a table that checks their tokens.
import assert from 'node:assert/strict'
import { after, before, type TestContext, test } from 'node:test'
import { postgresLocks } from 'reconcile-lock/postgres'
import { Postgres } from '../postgres/postgres.mjs'
import { until } from '../support/time.mjs'
import { StressTest } from './stress.mjs'
import { ATTEMPT, takeNotes, verdict } from './tokens.mjs'

const NAME = 'stress'
const PROCESSES = 16
const CLIENTS = 2
/** The test lasts until each count is reached: without killed holders it would prove nothing. */
const STRIKES = { kills: 20, terminations: 40, takeOvers: 20 }
const LOSSES = 6

let postgres: Postgres
before(async () => {
  postgres = await Postgres.start()
  await using locks = postgresLocks({ connectionString: postgres.url() })
  await (await locks.acquireLock(NAME)).release()
  await takeNotes(postgres)
})
after(() => postgres.stop())

function stressTest(
  t: TestContext,
  plan: Partial<ConstructorParameters<typeof StressTest>[1]> = {},
): StressTest {
  const made = new StressTest(postgres, { names: [NAME], ways: ['once', 'wait', 'abort'], ...plan })
  t.after(() => made.end())
  return made
}

test(`no stale token writes while ${PROCESSES * CLIENTS} clients contend`, async (t) => {
  const run = stressTest(t, { clients: CLIENTS })
  run.start(PROCESSES)
  const end = new AbortController()
  const strikes = [run.strike('killOne', 800, end.signal), run.strike('terminateOne', 300, end.signal)]
  for (const [what, times] of Object.entries(STRIKES) as [keyof typeof STRIKES, number][])
    for (const part of [times / 2, times]) await until(() => run[what] >= part, `${part} ${what}`)
  await until(() => (run.kinds.lost ?? 0) >= LOSSES, `${LOSSES} lost locks`)
  end.abort()
  await Promise.all(strikes)
  await run.stop()
  const found = await verdict(postgres)
  run.report(t, found)
  assert.deepEqual(run.faults, [])
  assert.equal(new Set(run.tokens).size, run.tokens.length, 'no token repeats')
  assert.deepEqual([found.notGrown, found.shared, found.staleAccepted], [0, 0, 0])
  const documented = ['released', 'contention', 'aborted', 'lost', 'session ended']
  assert.deepEqual(
    Object.keys(run.kinds).filter((kind) => !documented.includes(kind)),
    [],
  )
  assert.equal(run.overlaps, 0)
  await using locks = postgresLocks({ connectionString: postgres.url() })
  await using lock = await locks.acquireLock({ name: NAME, timeout: 10_000 })
  assert.equal(lock.name, NAME)
})

test('control: the verdict counts refused and stale writes', async () => {
  await using locks = postgresLocks({ connectionString: postgres.url() })
  const first = await locks.acquireLock(NAME)
  await first.release()
  await using second = await locks.acquireLock(NAME)
  const attempt = async (token: bigint, client: string) => {
    const [answer] = await postgres.sql<{ isAccepted: boolean }>(
      ATTEMPT.replace('$1', String(token)).replace('$2', `'${client}'`),
    )
    return answer?.isAccepted
  }
  const before = await verdict(postgres)
  assert.equal(await attempt(second.token, 'new'), true)
  assert.equal(await attempt(first.token, 'old'), false)
  const between = await verdict(postgres)
  assert.deepEqual([between.refused, between.staleAccepted], [before.refused + 1, 0])
  await postgres.sql(`UPDATE guarded SET token = 0`)
  assert.equal(await attempt(first.token, 'old'), true)
  assert.equal(await attempt(first.token, 'another'), true)
  await postgres.sql(`UPDATE reconcile_lock SET token = token`)
  const { staleAccepted, shared, notGrown } = await verdict(postgres)
  assert.deepEqual([staleAccepted, shared, notGrown], [2, 1, 1])
})

test('control: a client without a lock causes an overlap', async (t) => {
  const run = stressTest(t, { ways: ['wait'] })
  run.start(3)
  run.start(1, { takesLocks: false })
  await until(() => run.overlaps > 0, 'an overlap')
  await run.stop()
  assert.deepEqual(run.faults, [])
  t.diagnostic(`${run.overlaps} overlaps`)
})
