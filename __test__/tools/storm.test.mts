// The judge of the storm (scripts/storm), on made-up intervals and logs, its schedule, and short storms from their
// command line.
import assert from 'node:assert/strict'
import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { setTimeout } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { directory } from '../support/directory.mjs'

interface Interval {
  worker: string
  kind: string
  pid: number
  since: bigint
  enter: bigint
  exit: bigint
  gone: bigint
  takenOver: boolean
  outcome: 'released' | 'lost' | 'unknown'
}
interface Span {
  begin: bigint
  end: bigint
}
interface Overlap {
  first: Interval
  second: Interval
  pair: string
  explained: boolean
}
interface Run {
  intervals: Interval[]
  unlinks: Span[]
  errors: { kind: string; during: string; code: string; message: string }[]
  refused: number
  from: bigint
  to: bigint
}
interface Figures extends Run {
  overlaps: Overlap[]
  pairs: Record<string, number>
  acquisitions: number
  takeovers: number
  gap: number
  control?: boolean
  faults: string[]
  afterwards: { milliseconds: number; error?: string; left: string[] }
}
interface Mix {
  processes: number
  threads: number
  pace: Record<string, [number, number]>
}
interface ScheduledEvent {
  act: 'kill' | 'stop' | 'terminate'
  at: number
  place: number
  holder?: boolean
  lasting?: number
  thread?: number
}
type PlayedEvent = ScheduledEvent & { played: number; worker?: string }
type Process = { name: string; kind: string; pid: number; killing?: bigint; killed?: bigint }

const storm = fileURLToPath(new URL('../../../scripts/storm.mjs', import.meta.url))
const module = (name: string) => import(new URL(`../../../scripts/storm/${name}.mjs`, import.meta.url).href)
const { findOverlaps, longestGap, judge, findFailures, exitCode } = (await module('judge')) as {
  findOverlaps: (intervals: Interval[], unlinks?: Span[]) => Overlap[]
  longestGap: (intervals: Interval[], from: bigint, to: bigint) => number
  judge: (run: Run) => Figures
  findFailures: (figures: Figures) => string[]
  exitCode: (runs: (Figures | { skipped: string })[]) => number
}
const { collect } = (await module('collect')) as {
  collect: (logs: string, processes: Process[]) => Omit<Run, 'from' | 'to'>
}
const { schedule, nextFrom } = (await module('schedule')) as {
  schedule: (seed: string, mix: Mix, seconds: number) => ScheduledEvent[]
  nextFrom: <W extends { place: number }>(place: number, workers: W[]) => W | undefined
}
const { mixOf } = (await module('variants')) as { mixOf: (name: string, workers: number) => Mix }
const { loop } = (await module('loop')) as {
  loop: (setting: Record<string, unknown>, stopped: () => boolean) => Promise<void>
}

const ms = (milliseconds: number) => BigInt(Math.round(milliseconds * 1e6))
let serial = 0

/** Someone who held the lock, in milliseconds. */
function held(enter: number, exit: number, about: Partial<Interval> = {}): Interval {
  serial += 1
  const [since, gone] = [ms(enter), ms(exit)]
  const fixed = { worker: `w${serial}`, pid: serial, takenOver: false, outcome: 'released' as const }
  return { ...fixed, kind: 'native', since, enter: since, exit: gone, gone, ...about }
}
const span = (begin: number, end: number): Span => ({ begin: ms(begin), end: ms(end) })
const pairs = (intervals: Interval[], unlinks: Span[] = []) =>
  findOverlaps(intervals, unlinks).map(({ pair }) => pair)

for (const [what, intervals, expected] of [
  ['nobody', [], 0],
  ['one after another', [held(0, 1), held(2, 3)], 0],
  ['one begins where the other ends', [held(0, 1), held(1, 2)], 0],
  ['they overlap', [held(0, 2), held(1, 3)], 1],
  ['they overlap by a nanosecond', [held(0, 1.000001), held(1, 2)], 1],
  ['the later is named first', [held(1, 3), held(0, 2)], 1],
  ['a much later one is named between them', [held(0, 2), held(5, 6), held(1, 3)], 1],
  ['one within the other', [held(0, 5), held(1, 2)], 1],
  ['a moment within the other', [held(0, 5), held(1, 1)], 1],
  ['a moment at the start of the other', [held(1, 1), held(1, 2)], 0],
  ['the same, named last', [held(1, 2), held(1, 1)], 0],
  ['a moment at the end of the other', [held(0, 1), held(1, 1)], 0],
  ['both the same', [held(0, 1), held(0, 1)], 1],
  ['three at once', [held(0, 3), held(1, 4), held(2, 5)], 3],
  ['two within a long one', [held(0, 9), held(1, 2), held(3, 4)], 2],
  ['an early long one after a short one', [held(0, 9), held(1, 2), held(8, 10)], 2],
] as const) {
  test(`overlaps: ${what}: ${expected}`, () => {
    assert.equal(findOverlaps([...intervals]).length, expected)
  })
}

test('overlaps are named by their kinds, whoever comes first', () => {
  const of = (a: string, b: string) => pairs([held(0, 2, { kind: a }), held(1, 3, { kind: b })])
  assert.deepEqual(of('native', 'native'), ['native-native'])
  assert.deepEqual(of('old', 'native'), ['native-old'])
  assert.deepEqual(of('native', 'old'), ['native-old'])
  assert.deepEqual(of('old', 'old'), ['old-old'])
  assert.deepEqual(of('native', 'bun'), ['bun-native'])
  assert.deepEqual(of('thread', 'thread'), ['thread-thread'])
})

const lost = { outcome: 'lost' } as const
for (const [what, first, second, unlink, expected] of [
  ['between the two enters', held(10, 20, lost), held(15, 25), span(12, 13), true],
  ['before the first had the lock', held(10, 20, lost), held(15, 25), span(8, 9), false],
  ['after the second entered', held(10, 20, lost), held(15, 25), span(16, 17), false],
  ['begun before, ended between', held(10, 20, lost), held(15, 25), span(9, 11), true],
  [
    'before the stamp, after the record',
    held(10, 20, { ...lost, since: ms(7) }),
    held(15, 25),
    span(8, 9),
    true,
  ],
  ['but both found their files in their places', held(10, 20), held(15, 25), span(12, 13), false],
  [
    'and the second lost, stamped late',
    held(10, 20),
    held(15, 25, { ...lost, since: ms(8) }),
    span(9, 9.5),
    true,
  ],
  [
    'after the first entered, but only the second lost',
    held(10, 20),
    held(15, 25, lost),
    span(12, 13),
    false,
  ],
  ['and the first was killed', held(10, 20, { outcome: 'unknown' }), held(15, 25), span(12, 13), true],
  ['but one of them is old', held(10, 20, { ...lost, kind: 'old' }), held(15, 25), span(12, 13), false],
] as const) {
  test(`an old peer's unlink ${what}: ${expected ? 'explains' : 'does not explain'} the overlap`, () => {
    assert.deepEqual(
      findOverlaps([first, second], [unlink]).map(({ explained }) => explained),
      [expected],
    )
  })
}

for (const [what, intervals, expected] of [
  ['nobody ever', [], 10],
  ['between two holders', [held(0, 2), held(7, 10)], 5],
  ['before the first', [held(4, 10)], 4],
  ['after the last', [held(0, 3)], 7],
  ['not within a longer hold', [held(0, 10), held(1, 2), held(8, 9)], 0],
  ['after a kill, not after its earliest moment', [held(0, 1, { gone: ms(4) }), held(5, 10)], 1],
  ['not after the storm', [held(0, 9), held(30, 31)], 1],
] as const) {
  test(`the longest gap: ${what}: ${expected} ms`, () => {
    assert.equal(longestGap([...intervals], 0n, ms(10)), expected)
  })
}

/** Writes logs as workers do; the times in them are milliseconds. */
function logged(t: TestContext, logs: Record<string, string[]>, processes: Process[]) {
  const path = directory(t)
  for (const [name, lines] of Object.entries(logs)) {
    const stamped = lines.map((line) => line.replace(/@(\d+)/g, (_, at) => String(ms(Number(at)))))
    writeFileSync(join(path, `${name}.log`), stamped.join('\n'))
  }
  return collect(path, processes)
}
const seen = ({ intervals }: Pick<Run, 'intervals'>) =>
  intervals.map(({ enter, exit, gone, outcome }) => {
    const times = [enter, exit, gone].map((at) => Number(at) / 1e6)
    return [...times, outcome].join(' ')
  })
const native = { name: 'w0', kind: 'native', pid: 1 }

test('logs become intervals', async (t) => {
  const killed = { ...native, killing: ms(50), killed: ms(52) }
  const enter = 'enter @10 @9 0'
  for (const [what, process, lines, expected] of [
    ['released', native, [enter, 'exit @20', ''], ['10 20 20 released']],
    ['lost', native, [enter, 'exit @20', 'error @21 release E_LOCK_LOST "gone"', ''], ['10 20 20 lost']],
    ['inside when it was killed', killed, [enter, ''], ['10 50 52 unknown']],
    ['killed after its exit', killed, [enter, 'exit @20', ''], ['10 20 20 unknown']],
    ['killed after its release', killed, [enter, 'exit @20', 'refused 1', ''], ['10 20 20 released']],
    ['killed while it wrote its exit', killed, [enter, 'exit 2'], ['10 50 52 unknown']],
    ['killed while it entered', killed, ['enter @51 @51 0', ''], ['51 51 52 unknown']],
    [
      'twice',
      native,
      [enter, 'exit @20', 'enter @30 @30 1', 'exit @31', ''],
      ['10 20 20 released', '30 31 31 released'],
    ],
  ] as const) {
    await t.test(what, (t) => {
      assert.deepEqual(seen(logged(t, { w0: [...lines] }, [process])), expected)
    })
  }
  await t.test('of a thread: it ends by itself or with its process, whichever comes first', (t) => {
    const thread = { w0: ['end @30 w0.1', 'ended @31 w0.1', ''], 'w0.1': [enter, ''], 'w0.2': [enter, ''] }
    assert.deepEqual(seen(logged(t, thread, [killed])), ['10 30 31 unknown', '10 50 52 unknown'])
    const earlier = { ...native, killing: ms(25), killed: ms(26) }
    assert.deepEqual(seen(logged(t, thread, [earlier])), ['10 25 26 unknown', '10 25 26 unknown'])
  })
  await t.test('of one who enters twice: refused', (t) => {
    assert.throws(() => logged(t, { w0: [enter, enter, ''] }, [native]), /entered twice/)
  })
})

test('logs become counts and removals', (t) => {
  const old = { name: 'w1', kind: 'old', pid: 2, killing: ms(40), killed: ms(41) }
  const refusal = 'error @6 acquire E_LOCK_CONTENTION "held"'
  const lines = ['refused 5', refusal, 'error @7 acquire EACCES "no \\"way\\""', '']
  const removals = ['unlink @3', 'unlinked @4', 'unlink @39', '']
  const run = logged(t, { w0: lines, w1: removals }, [native, old])
  assert.equal(run.refused, 6)
  assert.deepEqual(
    run.errors.map(({ kind, during, code, message }) => [kind, during, code, message]),
    [['native', 'acquire', 'EACCES', 'no "way"']],
  )
  assert.deepEqual(run.unlinks, [span(3, 4), span(39, 41)])
})

/** The figures of a run that is in order but for what a test puts wrong. */
function figures(run: Partial<Run>, about: Partial<Figures> = {}): Figures {
  const calm: Run = {
    intervals: [held(0, 5), held(5, 10)],
    unlinks: [],
    errors: [],
    refused: 0,
    from: 0n,
    to: ms(10),
  }
  return { ...judge({ ...calm, ...run }), faults: [], afterwards: { milliseconds: 1, left: [] }, ...about }
}
const error = (kind: string, during: string, code: string) => ({ kind, during, code, message: 'no' })
const old = held(5, 10, { kind: 'old' })

for (const [what, run, expected] of [
  ['nothing wrong', figures({}), undefined],
  ['an overlap', figures({ intervals: [held(0, 5), held(4, 10)] }), /^1 overlap$/],
  ['an overlap with an old peer', figures({ intervals: [held(0, 6), old] }), undefined],
  [
    'an overlap that an old peer explains',
    figures({ intervals: [held(0, 6, lost), held(5, 10)], unlinks: [span(1, 2)] }),
    undefined,
  ],
  [
    'an undocumented error',
    figures({ errors: [error('native', 'acquire', 'ENOENT')] }),
    /^1 times ENOENT \(no\)$/,
  ],
  [
    'a lock lost among native workers',
    figures({ errors: [error('native', 'release', 'E_LOCK_LOST')] }),
    /E_LOCK_LOST/,
  ],
  [
    'a lock lost beside old peers',
    figures({ intervals: [held(0, 5), old], errors: [error('native', 'release', 'E_LOCK_LOST')] }),
    undefined,
  ],
  [
    'an error of an old peer',
    figures({ intervals: [held(0, 5), old], errors: [error('old', 'acquire', 'EEXIST')] }),
    undefined,
  ],
  [
    'a raw error beside old peers',
    figures({ intervals: [held(0, 5), old], errors: [error('native', 'acquire', 'EEXIST')] }),
    /EEXIST/,
  ],
  ['a gap of 2.4 s', figures({ intervals: [held(0, 5), held(2405, 2410)], to: ms(2410) }), undefined],
  ['a gap of 2.6 s', figures({ intervals: [held(0, 5), held(2605, 2610)], to: ms(2610) }), /2600 ms/],
  ['nobody acquired', figures({ intervals: [] }), /nobody acquired/],
  ['a worker that ended by itself', figures({}, { faults: ['w1 ended'] }), /^w1 ended$/],
  [
    'a lock that cannot be acquired afterwards',
    figures({}, { afterwards: { milliseconds: 1, error: 'E', left: [] } }),
    /afterwards/,
  ],
  ['a file left behind', figures({}, { afterwards: { milliseconds: 1, left: ['x'] } }), /left behind: x/],
  [
    'a control that overlaps',
    figures({ intervals: [held(0, 6, { kind: 'old' }), old] }, { control: true }),
    undefined,
  ],
  ['a control that does not', figures({ intervals: [old] }, { control: true }), /too weak/],
] as const) {
  test(`${what}: ${expected ? 'exits with 1' : 'exits with 0'}`, () => {
    const failures = findFailures(run)
    assert.equal(failures.length, expected ? 1 : 0, failures.join('; '))
    if (expected) assert.match(failures.join(), expected)
    assert.equal(exitCode([run]), expected ? 1 : 0)
    assert.equal(exitCode([figures({}), run, { skipped: 'x' }]), expected ? 1 : 0)
  })
}

const threads = mixOf('threads', 16)

test('the same seed makes the same schedule', () => {
  assert.deepEqual(schedule('7', threads, 60), schedule('7', threads, 60))
})

test('another seed makes another schedule', () => {
  const places = (seed: string) => schedule(seed, threads, 60).map(({ place }) => place)
  const times = (seed: string) => schedule(seed, threads, 60).map(({ at }) => at)
  assert.notDeepEqual(places('7'), places('8'))
  assert.notDeepEqual(times('7'), times('8'))
})

test('a longer schedule begins with the shorter one', () => {
  const short = schedule('7', threads, 5)
  assert.deepEqual(schedule('7', threads, 60).slice(0, short.length), short)
})

test('the pace of one kind does not change another kind', () => {
  const kills = (mix: Mix) => schedule('7', mix, 60).filter(({ act }) => act === 'kill')
  const pace = { ...threads.pace, stop: [1, 2] as [number, number] }
  assert.deepEqual(kills({ ...threads, pace }), kills(threads))
})

for (const name of ['native', 'threads']) {
  test(`every event of the schedule is within the pace: ${name}`, () => {
    const mix = mixOf(name, 16)
    const events = schedule('7', mix, 600)
    const within = (value: number | undefined, [low, high]: readonly [number, number]) =>
      assert.ok(value !== undefined && Number.isInteger(value) && value >= low && value <= high, `${value}`)
    const all = (low: number, high: number) =>
      new Set(Array.from({ length: high - low + 1 }, (_, i) => low + i))
    for (const act of ['kill', 'stop', 'terminate'] as const) {
      const ofKind = events.filter((event) => event.act === act)
      const range = mix.pace[act]
      if (!range) {
        assert.deepEqual(ofKind, [])
        continue
      }
      let before = 0
      for (const { at, place, lasting, thread } of ofKind) {
        within(at - before, range)
        within(place, [0, mix.processes - 1])
        if (act === 'stop') within(lasting, mix.pace.stopped ?? [0, 0])
        if (act === 'terminate') within(thread, [0, mix.threads - 1])
        before = at
      }
      assert.ok(before <= 600_000 && before > 600_000 - range[1])
      assert.deepEqual(new Set(ofKind.map(({ place }) => place)), all(0, mix.processes - 1))
    }
    const preferring = events.filter(({ holder }) => holder).length
    const kills = events.filter(({ act }) => act === 'kill').length
    assert.ok(preferring > 0.65 * kills && preferring < 0.85 * kills, `${preferring} of ${kills}`)
    assert.deepEqual(
      events.map(({ at }) => at),
      events.map(({ at }) => at).sort((a, b) => a - b),
    )
  })
}

test('an event takes the next eligible place', () => {
  const workers = [1, 3, 4].map((place) => ({ place }))
  const taken = [0, 1, 2, 3, 4, 5].map((place) => nextFrom(place, workers)?.place)
  assert.deepEqual(taken, [1, 1, 3, 3, 4, 1])
  assert.equal(nextFrom(0, []), undefined)
})

/** Records the attempts of a worker. Every `nth` attempt is refused. */
const recorder = (nth: number) => `
const attempts = (exports.attempts = [])
const lock = {
  holder: { createdAt: 0 },
  release: async () => {},
  releaseSync() {},
  async [Symbol.asyncDispose ?? 'dispose']() {},
}
function attempt(way, { timeout }) {
  attempts.push({ way, timeout })
  if (attempts.length % ${nth} === 0) throw Object.assign(new Error('held'), { code: 'E_LOCK_CONTENTION' })
  return lock
}
exports.acquireLock = async (options) => attempt('acquireLock', options)
exports.acquireLockSync = (options) => attempt('acquireLockSync', options)
exports.withLock = async (work, options) => work(attempt('withLock', options))
exports.releaseLock = async () => {}
`

/** The first attempts of a worker. */
async function attemptsOf(t: TestContext, seed: string, name: string, nth = 1000) {
  const root = `${directory(t)}/`
  writeFileSync(join(root, 'index.js'), recorder(nth))
  const { attempts } = createRequire(import.meta.url)(join(root, 'index.js')) as { attempts: unknown[] }
  const setting = { seed, name, kind: 'native', index: 0, cwd: root, logs: root, root }
  await loop(setting, () => attempts.length === 50)
  return attempts
}

test('the attempts of a worker depend on the seed and its name', async (t) => {
  const first = await attemptsOf(t, '7', 'w0')
  assert.equal(first.length, 50)
  assert.deepEqual(await attemptsOf(t, '7', 'w0'), first)
  assert.notDeepEqual(await attemptsOf(t, '8', 'w0'), first)
  assert.notDeepEqual(await attemptsOf(t, '7', 'w1'), first)
})

test('contention does not change the next attempts', async (t) => {
  assert.deepEqual(await attemptsOf(t, '7', 'w0', 2), await attemptsOf(t, '7', 'w0'))
})

/** Runs the storm's command line with temporary files in `directory`. */
function command(tmp: string, ...args: string[]) {
  const env = { ...process.env, TMPDIR: tmp }
  return spawnSync(process.execPath, [storm, '--no-build', ...args], { env, encoding: 'utf8' })
}

/** The schedule in a directory of logs. */
const playedIn = (logs: string) =>
  readFileSync(join(logs, 'schedule.jsonl'), 'utf8')
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line) as PlayedEvent)

/** The schedules that a storm played, by variant. `Math.random` throws in all of its processes and threads. */
function play(t: TestContext, ...args: string[]) {
  const tmp = directory(t)
  const poison = join(tmp, 'poison.cjs')
  writeFileSync(poison, `Math.random = () => { throw new Error('Math.random was called') }`)
  const env = { ...process.env, TMPDIR: tmp, NODE_OPTIONS: `--require ${poison}` }
  const all = [storm, '--no-build', '--keep', '--workers', '8', ...args]
  const { status, stdout, stderr } = spawnSync(process.execPath, all, { env, encoding: 'utf8' })
  assert.equal(status, 0, stdout + stderr)
  const runs = stdout.matchAll(/^(\w+) on tmpfs \(.*?^ {2}logs: ([^\n]+)$/gms)
  const byVariant = new Map(Array.from(runs, ([, name = '', logs = '']) => [name, playedIn(logs)]))
  return { stdout, byVariant }
}
const planned = (events: PlayedEvent[] = []) =>
  events.map(({ played: _, worker: __, ...event }): ScheduledEvent => event)

test('a storm plays the schedule of its seed', (t) => {
  const { stdout, byVariant } = play(t, '--seconds', '2', '--seed', '7', '--variant', 'threads,native')
  assert.match(stdout, /^seed 7$/m)
  for (const name of ['threads', 'native']) {
    const events = byVariant.get(name) ?? []
    assert.deepEqual(planned(events), schedule(`7 ${name} tmpfs`, mixOf(name, 8), 2))
    // A timer may fire a millisecond early.
    for (const { at, played } of events) assert.ok(played >= at - 2, `${played} is before ${at}`)
    assert.ok(events.some(({ worker }) => worker !== undefined))
  }
  const alone = play(t, '--seconds', '1', '--seed', '7', '--variant', 'native').byVariant.get('native')
  assert.ok(alone)
  assert.deepEqual(planned(alone), planned(byVariant.get('native')).slice(0, alone.length))
})

test('a storm without a seed chooses and prints one', (t) => {
  const seeds = [1, 2].map(() => {
    const { stdout } = command(directory(t), '--seconds', '1', '--workers', '4')
    return /^seed (\d+)$/m.exec(stdout)?.[1]
  })
  assert.ok(seeds[0])
  assert.notEqual(seeds[0], seeds[1])
})

/** The processes that work in a directory: their arguments name it. */
function working(path: string): number[] {
  const pids = readdirSync('/proc').filter((name) => /^\d+$/.test(name))
  const works = (pid: string) => {
    try {
      return readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes(path)
    } catch {
      return false
    }
  }
  return pids.filter(works).map(Number)
}

test('three seconds of native workers: many acquire, some take over, none overlap', (t) => {
  const tmp = directory(t)
  const { status, stdout, stderr } = command(tmp, '--seconds', '3', '--workers', '8')
  assert.equal(status, 0, stdout + stderr)
  const figure = (name: string) =>
    Number(new RegExp(`^ +${name} +([\\d,]+)`, 'm').exec(stdout)?.[1]?.replace(/,/g, ''))
  assert.ok(figure('acquisitions') > 100, stdout)
  assert.ok(figure('kills') > 0, stdout)
  assert.ok(figure('stops') > 0, stdout)
  assert.match(stdout, /^ +stops .* [1-9]\d* of them continued/m)
  assert.ok(figure('takeovers') > 0, stdout)
  assert.ok(figure('refused') > 0, stdout)
  assert.match(stdout, /^ +overlaps +none$/m)
  assert.match(stdout, /^ +other errors +none$/m)
  assert.match(stdout, /^ +longest gap +\d+\.\d ms/m)
  assert.match(stdout, /^storm: 1 variant, 0 overlaps$/m)
  assert.deepEqual(readdirSync(tmp), [])
})

test('the same storm shows overlaps of the original alone', (t) => {
  const { status, stdout } = command(directory(t), '--seconds', '3', '--workers', '8', '--variant', 'control')
  assert.equal(status, 0, stdout)
  assert.match(stdout, /^ +overlaps +[\d,]+ old-old$/m)
})

test('a place that this machine does not have is skipped, with the reason', (t) => {
  const known = readFileSync('/proc/filesystems', 'utf8').split(/\s+/)
  if (known.includes('nfs') || known.includes('nfs4')) return t.skip('this kernel has NFS')
  const { status, stdout } = command(directory(t), '--seconds', '1', '--on', 'nfs')
  assert.equal(status, 0)
  assert.match(stdout, /^native on nfs: skipped: .*(root|no NFS client)/m)
  assert.match(stdout, /^storm: 0 variants, 0 overlaps, 1 skipped$/m)
})

test('what was mounted is unmounted, and nothing is left', (t) => {
  const tmp = directory(t)
  const { status, stdout } = command(tmp, '--seconds', '1', '--workers', '4', '--on', 'overlayfs')
  assert.equal(status, 0, stdout)
  assert.deepEqual(readdirSync(tmp), [])
  assert.ok(!readFileSync('/proc/mounts', 'utf8').includes(tmp))
  const [, skipped] = /skipped: (.*)/.exec(stdout) ?? []
  if (skipped) return t.skip(skipped)
  assert.match(stdout, /^native on overlayfs \(overlayfs\)/m)
})

/** The process may have ended meanwhile. */
function signal(pid: number, name: NodeJS.Signals) {
  try {
    process.kill(pid, name)
  } catch (error) {
    assert.equal((error as NodeJS.ErrnoException).code, 'ESRCH')
  }
}

/** Waits until the child has printed a line that matches, and fails when it ends without. */
async function says(child: ChildProcess, line: RegExp) {
  let text = ''
  await new Promise<void>((resolve, reject) => {
    child.stdout?.on('data', (chunk) => {
      text += chunk
      if (line.test(text)) resolve()
    })
    child.once('exit', () => reject(new Error(`${line} was never printed: ${text}`)))
  })
}

/** A storm whose workers have all begun to write their logs. */
async function begun(t: TestContext, seconds = '60', ...more: string[]) {
  const tmp = directory(t)
  const args = [
    storm,
    '--no-build',
    '--seconds',
    seconds,
    '--workers',
    '4',
    '--on',
    'disk',
    '--seed',
    '7',
    ...more,
  ]
  const env = { ...process.env, TMPDIR: tmp }
  const child = spawn(process.execPath, args, { env, stdio: ['ignore', 'pipe', 'inherit'] })
  t.after(() => {
    child.kill('SIGKILL')
    for (const pid of working(tmp)) signal(pid, 'SIGKILL')
  })
  const exit = once(child, 'exit')
  await says(child, /^native on disk/m)
  const logs = () => readdirSync(tmp).find((name) => name.includes('logs'))
  while (!logs() || readdirSync(join(tmp, logs() ?? '')).length < 4) await setTimeout(10)
  return { tmp, child, exit }
}

async function nobodyWorks(tmp: string) {
  for (let tries = 0; working(tmp).length > 0 && tries < 500; tries += 1) await setTimeout(10)
  assert.deepEqual(working(tmp), [])
}

test('Ctrl-C ends every worker and removes everything', async (t) => {
  const { tmp, child, exit } = await begun(t)
  // One that is stopped does not end by itself when the storm is gone.
  for (const pid of working(tmp)) signal(pid, 'SIGSTOP')
  child.kill('SIGINT')
  assert.deepEqual(await exit, [1, null])
  await nobodyWorks(tmp)
  assert.deepEqual(readdirSync(tmp), [])
})

test('a worker that another ended: the storm exits with 1 and keeps the logs', async (t) => {
  const { tmp, child, exit } = await begun(t, '2')
  let printed = ''
  child.stdout?.on('data', (chunk) => {
    printed += chunk
  })
  for (const pid of working(tmp)) signal(pid, 'SIGKILL')
  assert.deepEqual(await exit, [1, null])
  assert.match(printed, /FAILED: w\d+ \(native\) ended by itself: SIGKILL/)
  assert.match(
    printed,
    /rerun: npm run storm -- --variant native --on disk --seconds 2 --workers 4 --seed 7$/m,
  )
  assert.match(printed, /^storm: 1 variant, 0 overlaps, native on disk failed: /m)
  const [logs = ''] = readdirSync(tmp)
  assert.match(printed, new RegExp(`logs: .*${logs}$`, 'm'))
  assert.ok(readdirSync(join(tmp, logs)).length >= 4)
})

test('a suspended storm does not play the missed events in a burst', async (t) => {
  const { tmp, child, exit } = await begun(t, '3', '--keep')
  child.kill('SIGSTOP')
  await setTimeout(1000)
  child.kill('SIGCONT')
  await exit
  const kills = playedIn(join(tmp, readdirSync(tmp)[0] ?? '')).filter(({ act }) => act === 'kill')
  const early = kills.slice(1).map(({ at, played }, index) => {
    const before = kills[index]
    assert.ok(before)
    return at - before.at - (played - before.played)
  })
  // The schedule allows an event to be 50 ms late; a timer may fire early, and times are rounded.
  assert.ok(Math.max(...early) <= 53, `${early}`)
})

test('a killed storm leaves no worker behind but those that it stopped', async (t) => {
  const { tmp, child, exit } = await begun(t)
  child.kill('SIGKILL')
  await exit
  for (const pid of working(tmp)) signal(pid, 'SIGCONT')
  await nobodyWorks(tmp)
})

for (const args of [
  ['--seconds', '0'],
  ['--seconds', 'x'],
  ['--workers', '3'],
  ['--workers', '4.5'],
  ['--variant', 'unknown'],
  ['--variant', 'native,'],
  ['--on', 'floppy'],
  ['--seed', 'x'],
  ['--seed', '1.5'],
  ['--seed='],
  ['--seed=-1'],
  ['--unknown'],
  ['surplus'],
]) {
  test(`${args.join(' ')}: exits with 2 and says how to use it`, (t) => {
    const { status, stdout, stderr } = command(directory(t), ...args)
    assert.equal(status, 2)
    assert.equal(stdout, '')
    assert.match(stderr, /^(?!Usage).+\n\nUsage: npm run storm/)
  })
}

test('--help says how to use it', (t) => {
  const { status, stdout } = command(directory(t), '--help')
  assert.equal(status, 0)
  assert.match(stdout, /^Usage: npm run storm/)
})
