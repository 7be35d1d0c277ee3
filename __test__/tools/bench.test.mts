// The benchmark: its targets on made-up figures, and a short run.
import assert from 'node:assert/strict'
import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { directory } from '../support/directory.mjs'
import { root } from '../support/packages.mjs'
import { until } from '../support/time.mjs'

interface Judged {
  name: string
  verdict: 'reached' | 'missed' | 'skipped'
  measured: number | string
}
type Figures = Record<string, number | string>
const { judge } = (await import(join(root, 'tools/bench/targets.mjs'))) as {
  judge: (section: string, medium: string, figures: Figures) => Judged[]
}
const { momentsOf, takeTurns } = (await import(join(root, 'tools/bench/measure.mjs'))) as {
  momentsOf: (span: number[], count: number) => number[]
  takeTurns: (
    contenders: { sample: () => number; times?: number }[],
    rounds: number,
  ) => Promise<{ samples: number[] }[]>
}
const bench = (...args: string[]) =>
  spawnSync(process.execPath, [join(root, 'tools/bench.mjs'), '--no-build', ...args], { encoding: 'utf8' })

test('momentsOf takes one moment of each part of a span', () => {
  const parts = momentsOf([20, 220], 200).map((at) => Math.floor(at - 20))
  assert.deepEqual(
    parts.toSorted((a, b) => a - b),
    Array.from({ length: 200 }, (_, part) => part),
  )
})

test('takeTurns runs slow contenders less often', async () => {
  let calls = 0
  const contender = { sample: () => calls++ }
  const all = [contender, { ...contender, times: 2 }, contender]
  const taken = await takeTurns(all, 4)
  assert.deepEqual(
    taken.map(({ samples }) => samples.length),
    [4, 2, 4],
  )
  assert.equal(calls, 12, 'one extra round, which does not count')
})

/** The figures of a section: each is 1, except those in `about`. */
const figures = (about: Figures = {}): Figures =>
  new Proxy(about, { get: (all, name: string) => all[name] ?? 1 })

const polled = 'pg_try_advisory_lock, polled every 200 ms'
for (const [section, name, figure, good, bad] of [
  [
    'pairs',
    'acquireLockSync x floor - its system calls x floor <= 0.1',
    'acquireLockSync x floor',
    1.09,
    1.11,
  ],
  ['pairs', 'acquireLock x floor <= 2.8', 'acquireLock x floor', 2.8, 2.81],
  ['handover', 'acquireLock p50 us / flock(1) p50 us <= 3', 'acquireLock p50 us', 3, 3.01],
  ['killed', 'acquireLock p99 us < 20000', 'acquireLock p99 us', 19_999, 20_000],
  ['fairness', 'held for 0 ms ratio <= 3', 'held for 0 ms ratio', 3, Infinity],
  ['postgres', `${polled} p50 us / acquireLock p50 us >= 20`, 'acquireLock p50 us', 1 / 20, 1 / 19],
] as const) {
  test(`judge checks ${name}`, () => {
    const verdictOn = (value: number) =>
      judge(section, 'tmpfs', figures({ [figure]: value })).find((judged) => judged.name === name)?.verdict
    assert.deepEqual([verdictOn(good), verdictOn(bad)], ['reached', 'missed'])
  })
}

test('judge skips a target without a figure, with a reason', () => {
  const why = 'n too small (5 of 200)'
  const judged = judge('killed', 'disk', figures({ 'acquireLock p99 us': why }))
  assert.deepEqual(
    judged.flatMap(({ verdict, measured }) => (verdict === 'skipped' ? [measured] : [])),
    [why],
  )
  assert.throws(() => judge('idle', 'tmpfs', {}), /no figure for paths: 1 CPU %/)
})

test('a short run judges every target of its sections', () => {
  const only = 'pairs,handover,wakeups,diagnostics,postgres'
  const { status, stdout, stderr } = bench('--only', only, '--rounds', '1', '--samples', '4')
  assert.equal(status, 0, stdout + stderr)
  for (const section of only.split(',')) {
    const verdicts = Array.from(
      stdout.matchAll(new RegExp(`^ *${section}: .* (reached|missed|skipped) `, 'gm')),
      ([, verdict]) => verdict,
    )
    assert.ok(verdicts.length > 0 && !verdicts.includes('skipped'), `${section}: ${verdicts}`)
  }
})

test('an interrupted bench leaves no server and no files', async (t) => {
  const tmp = directory(t)
  const args = [join(root, 'tools/bench.mjs'), '--no-build', '--only', 'postgres']
  const child = spawn(process.execPath, args, { stdio: 'ignore', env: { ...process.env, TMPDIR: tmp } })
  const exit = once(child, 'exit')
  const found = () => {
    const homes = readdirSync(tmp).filter((name) => name.startsWith('reconcile-postgres-'))
    return homes.map((name) => join(tmp, name, 'data/postmaster.pid')).filter((path) => existsSync(path))
  }
  await until(() => found().length > 0, 'a server runs')
  const server = Number.parseInt(readFileSync(found()[0] ?? '', 'utf8'), 10)
  child.kill()
  assert.deepEqual(await exit, [1, null])
  assert.deepEqual(readdirSync(tmp), [])
  await until(() => !existsSync(`/proc/${server}`), 'the server has ended')
})
