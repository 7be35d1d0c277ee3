// What the benchmark (scripts/bench) makes of its samples, on made-up ones, and its command line.
import assert from 'node:assert/strict'
import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { directory } from '../support/directory.mjs'
import { until } from '../support/time.mjs'

interface Hold {
  enter: bigint
  exit: bigint
}
interface Target {
  section: string
  name: string
  media?: string[]
  of: string
  to?: string
  most?: number
  least?: number
  below?: number
}
interface Judged {
  section: string
  name: string
  medium: string
  measured?: number
  verdict: 'reached' | 'missed' | 'skipped'
  reason?: string
}
type Figures = Record<string, number | string>

const bench = fileURLToPath(new URL('../../../scripts/bench.mjs', import.meta.url))
const module = (name: string) => import(new URL(`../../../scripts/bench/${name}.mjs`, import.meta.url).href)
const { countOverlaps, median, momentsOf, percentile, shares, spread } = (await module('statistics')) as {
  countOverlaps: (holds: Hold[]) => number
  median: (values: number[]) => number
  momentsOf: (span: number[], count: number) => number[]
  percentile: (values: number[], percent: number) => number
  shares: (holds: Hold[][]) => { counts: number[]; ratio: number }
  spread: (values: number[]) => { n: number; p50: number; p99: number | string; max: number }
}
const { judge, targets } = (await module('targets')) as {
  judge: (
    measured: Record<string, Record<string, Figures>>,
    skippedMedia: Record<string, string | undefined>,
  ) => Judged[]
  targets: Target[]
}
const { takeTurns } = (await module('rounds')) as {
  takeTurns: (
    contenders: { sample: () => Promise<number>; times?: number }[],
    rounds: number,
  ) => Promise<number[][]>
}

/** `count` values from 1, the largest first. */
const countdown = (count: number) => Array.from({ length: count }, (_, index) => count - index)

for (const [values, percent, expected] of [
  [[7], 50, 7],
  [[7], 99, 7],
  [[3, 1, 2], 0, 1],
  [[3, 1, 2], 50, 2],
  [[3, 1, 2], 100, 3],
  [[10, 9], 50, 9],
  [countdown(100), 99, 99],
  [countdown(200), 99, 198],
  [countdown(201), 99, 199],
] as const) {
  test(`the percentile ${percent} of ${values.length} values is ${expected}`, () => {
    assert.equal(percentile([...values], percent), expected)
  })
}

test('the median of an even number of values is between the two in the middle', () => {
  assert.equal(median([10, 2, 9]), 9)
  assert.equal(median([10, 2, 9, 4]), 6.5)
})

test('a p99 takes 200 samples', () => {
  assert.deepEqual(spread(countdown(200)), { n: 200, p50: 100.5, p99: 198, max: 200 })
  const few = { n: 199, p50: 100, p99: 'n too small (199 of 200)', max: 199 }
  assert.deepEqual(spread(countdown(199)), few)
})

test('moments are spread over their span, and not in its order', () => {
  const moments = momentsOf([20, 220], 200)
  const parts = (values: number[]) => values.map((at) => Math.floor(at - 20))
  const inOrder = Array.from({ length: 200 }, (_, part) => part)
  assert.deepEqual(parts(moments.toSorted((a, b) => a - b)), inOrder)
  assert.notDeepEqual(parts(moments), inOrder)
})

/** Holds at these moments, each as long as 5. */
const holds = (...moments: number[]): Hold[] =>
  moments.map((at) => ({ enter: BigInt(at), exit: BigInt(at + 5) }))

for (const [what, processes, counts, ratio] of [
  ['in turn', [holds(0, 20, 40, 60), holds(10, 30, 50, 70)], [2, 2], 1],
  ['one after the other', [holds(0, 10), holds(20, 30)], [2, 0], Infinity],
  ['named in another order', [holds(30, 20), holds(10, 0)], [0, 2], Infinity],
  ['three to one', [holds(0, 10, 20, 70), holds(30, 40, 50, 60)], [3, 1], 3],
  ['the second half does not count', [holds(0, 20, 90, 91), holds(10, 30, 40, 50)], [2, 2], 1],
  ['an odd number', [holds(0, 30), holds(10, 40), holds(20)], [1, 1, 0], Infinity],
] as const) {
  test(`the shares of processes: ${what}`, () => {
    assert.deepEqual(shares(processes.map((own) => [...own])), { counts: [...counts], ratio })
  })
}

for (const [what, all, expected] of [
  ['nobody', [], 0],
  ['one after another', holds(0, 10, 20), 0],
  ['one enters when the other leaves', holds(0, 5), 0],
  ['two at once', holds(0, 4), 1],
  ['two at once, the later named first', holds(4, 0, 10), 1],
  ['both at the same moment', holds(0, 0), 1],
  ['three at once', holds(0, 1, 2), 3],
] as const) {
  test(`overlaps of processes: ${what}: ${expected}`, () => {
    assert.equal(countOverlaps([...all]), expected)
  })
}

test('contenders take turns, and the slow ones sit out evenly', async () => {
  const log: string[] = []
  const contender = (name: string) => ({
    sample: async () => log.push(name),
  })
  const slow = { ...contender('slow'), times: 2 }
  const samples = await takeTurns([contender('a'), slow, contender('b')], 4)
  assert.deepEqual(
    samples.map(({ length }) => length),
    [4, 2, 4],
  )
  // One round more than was asked for, which does not count.
  assert.equal(log.filter((name) => name === 'a').length, 5)
  assert.equal(log.filter((name) => name === 'slow').length, 2)
  const between = log.slice(log.indexOf('slow') + 1, log.lastIndexOf('slow'))
  assert.ok(between.filter((name) => name === 'a').length >= 1, log.join())
  assert.deepEqual(
    [log.slice(0, 2).join(), log.slice(2, 4).join()],
    ['b,a', 'a,b'],
    'not always in the same order',
  )
})

/** The figures of a section that its targets look up: all 1 but for what a test puts in their place. */
function figures(section: string, about: Figures = {}): Figures {
  const names = targets.filter((target) => target.section === section).flatMap(({ of, to }) => [of, to ?? of])
  return { ...Object.fromEntries(names.map((name) => [name, 1])), ...about }
}

for (const [section, name, figure, good, bad] of [
  ['pairs', 'sync pair <= 1.6 x floor', 'pair acquireLockSync', 1.6, 1.61],
  ['handover', 'acquireLock hand-over p50 <= 3 x flock(1)', 'acquireLock p50', 3, 3.01],
  ['handover', 'acquireLockSync hand-over p50 <= 3 x flock(1)', 'acquireLockSync p50', 3, 3.01],
  [
    'handover',
    'acquireLock hand-over p50 >= 50 x better than polling',
    'original, polled every 200 ms p50',
    50,
    49,
  ],
  ['killed', 'acquireLock after SIGKILL p99 < 20 ms', 'acquireLock p99 ms', 19.99, 20],
  [
    'killed',
    'acquireLock, legacy: false, after SIGKILL p50 < 4 ms',
    'acquireLock, legacy: false p50 ms',
    3.99,
    4,
  ],
  ['fairness', 'held for 0 ms: largest share <= 3 x smallest', 'share 0', 3, Infinity],
  ['fairness', 'held for 1 ms: no overlaps', 'overlaps 1', 0, 1],
  ['diagnostics', 'nobody listens: nothing computed', 'computed for nobody', 0, 1],
  ['idle', '200 waiters, paths: 200, CPU < 1 %', 'percent 200', 0.99, 1],
  ['idle', '200 waiters, paths: 1, threads <= +2', 'threads 1', 2, 3],
  ['load', 'require adds <= 5 ms', 'added reconcile-lock', 5, 5.01],
  ['postgres', 'acquireLock pair <= 6 x two statements with a row updated', 'acquireLock + release', 6, 6.01],
  [
    'postgres',
    'acquireLock hand-over p50 >= 20 x better than polling',
    'pg_try_advisory_lock, polled every 200 ms p50',
    20,
    19.9,
  ],
] as const) {
  test(`target ${name}: reached by ${good}, missed by ${bad}`, () => {
    const verdictOn = (value: number) =>
      judge({ [section]: { tmpfs: figures(section, { [figure]: value }) } }, {}).find(
        (judged) => judged.name === name && judged.medium === 'tmpfs',
      )?.verdict
    assert.equal(verdictOn(good), 'reached')
    assert.equal(verdictOn(bad), 'missed')
  })
}

test('what was not measured decides nothing and says why', () => {
  const few = figures('killed', { 'acquireLock p99 ms': 'n too small (5 of 200)' })
  const judged = judge(
    { pairs: { disk: figures('pairs') }, killed: { disk: few } },
    { tmpfs: 'there is none' },
  )
  const skipped = (section: string, medium: string) =>
    judged.filter((each) => each.section === section && each.medium === medium && each.verdict === 'skipped')
  assert.ok(skipped('pairs', 'tmpfs').every(({ reason }) => reason === 'there is none'))
  assert.equal(skipped('pairs', 'tmpfs').length, 5)
  assert.equal(skipped('pairs', 'disk').length, 0)
  assert.deepEqual(
    skipped('killed', 'disk').map(({ reason }) => reason),
    ['n too small (5 of 200)'],
  )
  assert.ok(judged.some(({ section, reason }) => section === 'idle' && reason === 'not chosen by --only'))
})

test('a target whose figure is missing is an error, not a target that is reached', () => {
  assert.throws(() => judge({ idle: { tmpfs: {} } }, {}), /no figure for percent 1/)
})

const command = (...args: string[]) => spawnSync(process.execPath, [bench, ...args], { encoding: 'utf8' })

test('a short run: nothing is computed for nobody, and the figures are in the JSON file', (t) => {
  const json = join(directory(t), 'bench.json')
  const { status, stdout, stderr } = command(
    '--no-build',
    '--only',
    'diagnostics',
    '--rounds',
    '1',
    '--json',
    json,
  )
  assert.equal(status, 0, stdout + stderr)
  assert.match(stdout, /^ +nobody listens: nothing computed +\w+ +reached +0\.000$/m)
  assert.match(stdout, /^ +acquireLock after SIGKILL p99 < 20 ms +skipped +\(not chosen by --only\)$/m)
  const report = JSON.parse(readFileSync(json, 'utf8')) as {
    results: { diagnostics: { results: { computed: { unheard: number; heard: number } } }[] }
    targets: Judged[]
  }
  const computed = report.results.diagnostics[0]?.results.computed
  assert.equal(computed?.unheard, 0)
  assert.ok(computed.heard > 0)
  assert.equal(report.targets.filter(({ verdict }) => verdict !== 'skipped').length, 2)
})

test('what loading costs is printed, from 30 processes of each contender', (t) => {
  const json = join(directory(t), 'bench.json')
  const { status, stdout, stderr } = command('--no-build', '--only', 'load', '--json', json)
  assert.equal(status, 0, stdout + stderr)
  const report = JSON.parse(readFileSync(json, 'utf8')) as {
    results: { load: { results: { name: string; medianMs: number; addedMs: number; rounds: number[] }[] }[] }
    targets: Judged[]
  }
  const [empty, own, other] = report.results.load[0]?.results ?? []
  assert.ok(empty && own && other)
  assert.deepEqual(
    [empty, own, other].map(({ name, rounds }) => [name, rounds.length]),
    [
      ['an empty script', 30],
      ['reconcile-lock', 30],
      ['proper-lockfile', 30],
    ],
  )
  assert.equal(own.addedMs, own.medianMs - empty.medianMs)
  assert.match(stdout, new RegExp(`^ +require\\('reconcile-lock'\\) +${own.medianMs.toFixed(2)} +\\S+$`, 'm'))
  const judged = report.targets.find(({ section }) => section === 'load')
  assert.equal(judged?.measured, Math.max(0, own.addedMs))
})

interface PostgresReport {
  version: string
  pairs: { name: string; medianNs: number; perSecond: number; ratio: number; rounds: number[] }[]
  handovers: { name: string; n: number; p50: number; samples: number[] }[]
}
const { installPostgres } = (await import(
  new URL('../../../scripts/postgres.mjs', import.meta.url).href
)) as {
  installPostgres: () => string | undefined
}

test('locks on PostgreSQL: pairs beside two statements, and hand-overs beside those of the server', async (t) => {
  const missing = installPostgres()
  if (missing !== undefined) return t.skip(missing)
  const json = join(directory(t), 'bench.json')
  const short = ['--rounds', '1', '--samples', '4']
  const { status, stdout, stderr } = command('--no-build', '--only', 'postgres', ...short, '--json', json)
  assert.equal(status, 0, stdout + stderr)
  assert.equal(stderr, '')
  const report = JSON.parse(readFileSync(json, 'utf8')) as {
    results: { postgres: { medium: string; results: PostgresReport }[] }
    targets: Judged[]
  }
  const [{ results } = assert.fail('nothing was measured')] = report.results.postgres
  const [floor, , own] = results.pairs
  assert.deepEqual(
    results.pairs.map(({ name, rounds }) => [name, rounds.length]),
    [
      ['pg_try_advisory_lock + pg_advisory_unlock', 1],
      ['the same, with a row updated in between', 1],
      ['acquireLock + release', 1],
    ],
  )
  assert.ok(floor && own && own.ratio === own.medianNs / floor.medianNs && own.ratio > 1)
  assert.equal(own.perSecond, 1e9 / own.medianNs)
  assert.deepEqual(
    results.handovers.map(({ name, n }) => [name, n]),
    [
      ['acquireLock', 4],
      ['pg_advisory_lock', 4],
      ['pg_try_advisory_lock, polled every 200 ms', 1],
    ],
  )
  const rate = Math.round(own.perSecond).toLocaleString('en-US')
  assert.match(stdout, new RegExp(`^ +acquireLock \\+ release +${rate} +\\S+ +${own.ratio.toFixed(2)}$`, 'm'))
  const judged = report.targets.filter(({ section }) => section === 'postgres')
  assert.deepEqual(
    judged.map(({ medium, verdict }) => [medium, verdict === 'skipped']),
    [
      ['PostgreSQL', false],
      ['PostgreSQL', false],
    ],
  )
})

test('a bench that is ended leaves no server and no files behind', async (t) => {
  const missing = installPostgres()
  if (missing !== undefined) return t.skip(missing)
  const tmp = directory(t)
  const child = spawn(process.execPath, [bench, '--no-build', '--only', 'postgres'], {
    stdio: 'ignore',
    env: { ...process.env, TMPDIR: tmp },
  })
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

test('where PostgreSQL is not installed the bench says so, and its targets decide nothing', async () => {
  const { postgres } = (await module('postgres')) as {
    postgres: (
      setting: { rounds: number; samples: number },
      missing: string,
    ) => Promise<{ medium: string; text: string; figures: Figures }[]>
  }
  const reason = 'these Debian packages are needed: postgresql'
  const [{ medium, text, figures: found } = assert.fail('nothing was said')] = await postgres(
    { rounds: 1, samples: 1 },
    reason,
  )
  assert.equal(text, `skipped, ${reason}`)
  const judged = judge({ postgres: { [medium]: found } }, {}).filter(({ section }) => section === 'postgres')
  assert.deepEqual(
    judged.map((each) => [each.verdict, each.reason]),
    [
      ['skipped', reason],
      ['skipped', reason],
    ],
  )
})

test('a process that fails is an error, not a time', async (t) => {
  const { lifetime } = (await module('load')) as { lifetime: (path: string) => number }
  const script = join(directory(t), 'script.cjs')
  writeFileSync(script, "require('./nothing')")
  assert.throws(() => lifetime(script), /script\.cjs failed: 1\n[\s\S]*Cannot find module/)
  writeFileSync(script, '')
  assert.ok(lifetime(script) > 0)
})

for (const args of [
  ['--only', 'unknown'],
  ['--only', ''],
  ['--rounds', '0'],
  ['--samples', '1.5'],
  ['--samples', 'x'],
  ['--unknown'],
  ['surplus'],
]) {
  test(`${args.join(' ')}: exits with 2 and says how to use it`, () => {
    const { status, stdout, stderr } = command(...args)
    assert.equal(status, 2)
    assert.equal(stdout, '')
    assert.match(stderr, /^(?!Usage).+\n\nUsage: npm run bench/)
  })
}

test('--help says how to use it', () => {
  const { status, stdout } = command('--help')
  assert.equal(status, 0)
  assert.match(stdout, /^Usage: npm run bench/)
})
