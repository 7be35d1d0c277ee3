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
  section: string
  name: string
  medium: string
  measured?: number
  verdict: 'reached' | 'missed' | 'skipped'
  reason?: string
}
type Figures = Record<string, number | string>
const { judge } = (await import(join(root, 'tools/bench/targets.mjs'))) as {
  judge: (measured: Record<string, Record<string, Figures>>, skipped: Record<string, string>) => Judged[]
}
const { momentsOf, percentile, takeTurns } = (await import(join(root, 'tools/bench/measure.mjs'))) as {
  momentsOf: (span: number[], count: number) => number[]
  percentile: (values: number[], percent: number) => number
  takeTurns: (
    contenders: { sample: () => number; times?: number }[],
    rounds: number,
  ) => Promise<{ samples: number[] }[]>
}
const bench = (...args: string[]) =>
  spawnSync(process.execPath, [join(root, 'tools/bench.mjs'), '--no-build', ...args], { encoding: 'utf8' })

test('percentile selects by rank, and momentsOf splits a span', () => {
  const countdown = (count: number) => Array.from({ length: count }, (_, index) => count - index)
  assert.deepEqual(
    [0, 50, 99, 100].map((percent) => percentile(countdown(201), percent)),
    [1, 101, 199, 201],
  )
  const parts = momentsOf([20, 220], 200).map((at) => Math.floor(at - 20))
  assert.deepEqual(
    parts.toSorted((a, b) => a - b),
    countdown(200)
      .map((part) => part - 1)
      .toReversed(),
  )
})

test('takeTurns alternates contenders and runs slow ones less often', async () => {
  const log: string[] = []
  const contender = (name: string) => ({ sample: () => log.push(name) })
  const all = [contender('a'), { ...contender('slow'), times: 2 }, contender('b')]
  assert.deepEqual(
    (await takeTurns(all, 4)).map(({ samples }) => samples.length),
    [4, 2, 4],
  )
  assert.equal(log.filter((name) => name === 'a').length, 5, 'one extra round, which does not count')
  assert.deepEqual(log.slice(0, 4), ['b', 'a', 'a', 'b'])
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
      judge({ [section]: { tmpfs: figures({ [figure]: value }) } }, {}).find(
        (judged) => judged.name === name && judged.medium === 'tmpfs',
      )?.verdict
    assert.deepEqual([verdictOn(good), verdictOn(bad)], ['reached', 'missed'])
  })
}

test('judge skips a target without a figure, with a reason', () => {
  const few = figures({ 'acquireLock p99 us': 'n too small (5 of 200)' })
  const judged = judge({ pairs: { disk: figures() }, killed: { disk: few } }, { tmpfs: 'no tmpfs' })
  const reasons = (section: string) =>
    judged.flatMap((each) => (each.section === section && each.verdict === 'skipped' ? [each.reason] : []))
  assert.deepEqual(reasons('pairs'), Array(6).fill('no tmpfs'))
  assert.deepEqual(reasons('killed'), ['n too small (5 of 200)'])
  assert.equal(reasons('idle')[0], 'not chosen by --only')
  assert.throws(() => judge({ idle: { tmpfs: {} } }, {}), /no figure for paths: 1 CPU %/)
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

test('a wrong option exits with 2 and prints the usage', () => {
  for (const args of [['--only', 'unknown'], ['--only', ''], ['--rounds', '0'], ['--unknown'], ['surplus']]) {
    const { status, stdout, stderr } = bench(...args)
    assert.deepEqual([status, stdout], [2, ''], args.join(' '))
    assert.match(stderr, /^(?!Usage).+\n\nUsage: npm run bench/)
  }
})
