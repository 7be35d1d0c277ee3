// The verification of the stress test on made-up intervals and logs, and short runs, one of them with a broken lock.
import assert from 'node:assert/strict'
import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { directory } from '../support/directory.mjs'
import { root } from '../support/packages.mjs'
import { fileOf, here } from '../support/release.mjs'
import { until } from '../support/time.mjs'

interface Interval {
  worker: string
  kind: string
  pid: number
  since: bigint
  enter: bigint
  exit: bigint
  gone: bigint
  takenOver: boolean
  path?: string
  shared?: boolean
  outcome: 'released' | 'lost' | 'unknown'
}
interface Span {
  begin: bigint
  end: bigint
}
interface Run {
  intervals: Interval[]
  unlinks: Span[]
  errors: { kind: string; during: string; code: string; message: string }[]
  from: bigint
  to: bigint
  faults: string[]
  control?: boolean
  atOnce?: number
  kills: number
  terminations: number
  terminates?: boolean
  afterwards: { error?: string; left: string[] }
}
type Process = { name: string; kind: string; pid: number; killing?: bigint; killed?: bigint }

const script = join(root, 'tools/stress.mjs')
const { collect, findFailures, findOverlaps, longestGap } = (await import(
  join(root, 'tools/stress/verify.mjs')
)) as {
  collect: (logs: string, processes: Process[]) => Pick<Run, 'intervals' | 'unlinks' | 'errors'>
  findFailures: (run: Run) => string[]
  findOverlaps: (intervals: Interval[], unlinks?: Span[]) => { pair: string; explained: boolean }[]
  longestGap: (intervals: Interval[], from: bigint, to: bigint) => number
}
const { randomFrom } = (await import(join(root, 'tools/stress/random.mjs'))) as {
  randomFrom: (...names: string[]) => { whole(low: number, high: number): number }
}

const ms = (milliseconds: number) => BigInt(Math.round(milliseconds * 1e6))
let serial = 0

/** A worker that held the lock, in milliseconds. */
function held(enter: number, exit: number, about: Partial<Interval> = {}): Interval {
  serial += 1
  const [since, gone] = [ms(enter), ms(exit)]
  const fixed = { worker: `w${serial}`, pid: serial, takenOver: true, outcome: 'released' as const }
  return { ...fixed, kind: 'native', since, enter: since, exit: gone, gone, ...about }
}
const span = (begin: number, end: number): Span => ({ begin: ms(begin), end: ms(end) })

for (const [what, intervals, expected] of [
  ['no interval', [], 0],
  ['one after another', [held(0, 1), held(2, 3)], 0],
  ['one begins when the other ends', [held(0, 1), held(1, 2)], 0],
  ['by a nanosecond', [held(0, 1.000001), held(1, 2)], 1],
  ['the later one listed first', [held(1, 3), held(0, 2)], 1],
  ['a later one listed between them', [held(0, 2), held(5, 6), held(1, 3)], 1],
  ['one within the other', [held(0, 5), held(1, 2)], 1],
  ['an empty interval within another', [held(0, 5), held(1, 1)], 1],
  ['an empty interval at a start', [held(1, 1), held(1, 2)], 0],
  ['equal intervals', [held(0, 1), held(0, 1)], 1],
  ['two slots at once', [held(0, 2, { path: 'a' }), held(1, 3, { path: 'b' })], 0],
  ['two readers at once', [held(0, 2, { shared: true }), held(1, 3, { shared: true })], 0],
  ['a reader beside an owner', [held(0, 2, { shared: true }), held(1, 3)], 1],
  ['one slot twice', [held(0, 2, { path: 'a' }), held(1, 3, { path: 'a' })], 1],
  ['three at once', [held(0, 3), held(1, 4), held(2, 5)], 3],
  ['a long one over two short ones', [held(0, 9), held(1, 2), held(8, 10)], 2],
] as const) {
  test(`findOverlaps finds ${expected}: ${what}`, () => {
    assert.equal(findOverlaps([...intervals]).length, expected)
  })
}

const lost = { outcome: 'lost' } as const
const late = { ...lost, since: ms(7) }
const unknown = { outcome: 'unknown' } as const
for (const [what, first, second, unlink, expected] of [
  ['between the two enters', held(10, 20, lost), held(15, 25), span(12, 13), true],
  ['before the first held the lock', held(10, 20, lost), held(15, 25), span(8, 9), false],
  ['after the second entered', held(10, 20, lost), held(15, 25), span(16, 17), false],
  ['begun before, ended between', held(10, 20, lost), held(15, 25), span(9, 11), true],
  ['after the record was written', held(10, 20, late), held(15, 25), span(8, 9), true],
  ['but both released normally', held(10, 20), held(15, 25), span(12, 13), false],
  ['but only the second lost', held(10, 20), held(15, 25, lost), span(12, 13), false],
  ['and the first was killed', held(10, 20, unknown), held(15, 25), span(12, 13), true],
  ['but one is legacy', held(10, 20, { ...lost, kind: 'legacy' }), held(15, 25), span(12, 13), false],
] as const) {
  test(`${expected ? 'explained' : 'unexplained'} overlap: unlink ${what}`, () => {
    assert.deepEqual(
      findOverlaps([first, second], [unlink]).map(({ explained }) => explained),
      [expected],
    )
  })
}

for (const [what, intervals, expected] of [
  ['no holder', [], 10],
  ['between two holders', [held(0, 2), held(7, 10)], 5],
  ['before the first', [held(4, 10)], 4],
  ['after the last', [held(0, 3)], 7],
  ['not within a longer hold', [held(0, 10), held(1, 2), held(8, 9)], 0],
  ['after a kill', [held(0, 1, { gone: ms(4) }), held(5, 10)], 1],
  ['not after the end', [held(0, 9), held(30, 31)], 1],
] as const) {
  test(`longestGap is ${expected} ms: ${what}`, () => {
    assert.equal(longestGap([...intervals], 0n, ms(10)), expected)
  })
}

/** Collects logs; a line is an event, its time in milliseconds and its data. */
function logged(t: TestContext, logs: Record<string, (string | [string, number, object?])[]>, owner: object) {
  const path = directory(t)
  for (const [name, lines] of Object.entries(logs)) {
    const texts = lines.map((line) => {
      if (typeof line === 'string') return line
      const [event, at, about] = line
      return `${JSON.stringify({ event, at: String(ms(at)), ...about })}\n`
    })
    writeFileSync(join(path, `${name}.log`), texts.join(''))
  }
  return collect(path, [{ name: 'w0', kind: 'native', pid: 1, ...owner }])
}
const seen = ({ intervals }: Pick<Run, 'intervals'>) =>
  intervals.map(({ enter, exit, gone, outcome }) =>
    [...[enter, exit, gone].map((at) => Number(at) / 1e6), outcome].join(' '),
  )

test('collect turns logs into intervals', (t) => {
  const enter = ['enter', 10, { since: '9' }] as [string, number, object]
  const exit = ['exit', 20] as [string, number]
  const killed = { killing: ms(50), killed: ms(52) }
  const error = (code: string) => ['error', 21, { during: 'release', code }] as [string, number, object]
  for (const [what, owner, lines, expected] of [
    ['released', {}, [enter, exit, ['end', 21]], '10 20 20 released'],
    ['lost', {}, [enter, exit, error('E_LOCK_LOST')], '10 20 20 lost'],
    ['killed inside', killed, [enter], '10 50 52 unknown'],
    ['killed after its exit', killed, [enter, exit], '10 20 20 unknown'],
    ['killed after its release', killed, [enter, exit, ['refused', 0]], '10 20 20 released'],
    ['killed while it wrote its exit', killed, [enter, '{"event":"ex'], '10 50 52 unknown'],
    ['killed while it entered', killed, [['enter', 51]], '51 51 52 unknown'],
  ] as const)
    assert.deepEqual(seen(logged(t, { w0: [...lines] as [string, number][] }, owner)), [expected], what)
  const end = (event: string, at: number) => [event, at, { thread: 'w0.1' }] as [string, number, object]
  const threads = { w0: [end('terminate', 30), end('terminated', 31)], 'w0.1': [enter], 'w0.2': [enter] }
  assert.deepEqual(seen(logged(t, threads, killed)), ['10 30 31 unknown', '10 50 52 unknown'])
  const earlier = { killing: ms(25), killed: ms(26) }
  assert.deepEqual(seen(logged(t, threads, earlier)), ['10 25 26 unknown', '10 25 26 unknown'])
  assert.throws(() => logged(t, { w0: [enter, enter] }, {}), /entered twice/)
  const unlinks: [string, number][] = [
    ['unlink', 3],
    ['unlinked', 4],
    ['unlink', 39],
  ]
  assert.deepEqual(logged(t, { w0: unlinks }, killed).unlinks, [span(3, 4), span(39, 52)])
})

const calm: Run = {
  intervals: [held(0, 5), held(5, 10)],
  ...{ unlinks: [], errors: [], from: 0n, to: ms(10), faults: [], afterwards: { left: [] } },
  ...{ kills: 1, terminations: 0 },
}
const error = (kind: string, during: string, code: string) => ({ kind, during, code, message: 'no' })
const legacy = held(5, 10, { kind: 'legacy' })
const beside = [held(0, 5), legacy]

for (const [what, run, expected] of [
  ['a correct run', {}, undefined],
  ['an overlap', { intervals: [held(0, 5), held(4, 10)] }, /^1 overlaps$/],
  ['an overlap with a legacy worker', { intervals: [held(0, 6), legacy] }, undefined],
  [
    'an overlap explained by a legacy worker',
    { intervals: [held(0, 6, lost), held(5, 10)], unlinks: [span(1, 2)] },
    undefined,
  ],
  ['an undocumented error', { errors: [error('native', 'acquire', 'EIO')] }, /^1 times EIO \(no\)$/],
  ['a lost lock', { errors: [error('native', 'release', 'E_LOCK_LOST')] }, /E_LOCK_LOST/],
  [
    'a lost lock beside legacy workers',
    { intervals: beside, errors: [error('native', 'release', 'E_LOCK_LOST')] },
    undefined,
  ],
  [
    'an error of a legacy worker',
    { intervals: beside, errors: [error('legacy', 'acquire', 'EEXIST')] },
    undefined,
  ],
  [
    'a raw error beside legacy workers',
    { intervals: beside, errors: [error('native', 'acquire', 'EEXIST')] },
    /EEXIST/,
  ],
  ['a gap of 2.6 s', { intervals: [held(0, 5), held(2605, 2610)], to: ms(2610) }, /2600 ms/],
  ['no holder', { intervals: [] }, /no worker acquired/],
  ['no kill', { kills: 0 }, /no worker was killed/],
  ['no take-over', { intervals: [held(0, 5, { takenOver: false })] }, /no lock was taken over/],
  ['no terminated thread', { terminates: true }, /no thread was terminated/],
  ['a terminated thread', { terminates: true, terminations: 1 }, undefined],
  ['a worker that ended by itself', { faults: ['w1 ended'] }, /^w1 ended$/],
  ['a lock held afterwards', { afterwards: { error: 'E', left: [] } }, /afterwards/],
  ['a remaining file', { afterwards: { left: ['x'] } }, /left: x/],
  ['slots that were never all held', { atOnce: 2 }, /never 2 at once/],
  ['a control without an overlap', { control: true }, /proves nothing/],
  ['a control with an overlap', { control: true, intervals: [held(0, 6), legacy] }, undefined],
] as [string, Partial<Run>, RegExp | undefined][]) {
  test(`findFailures ${expected ? 'reports' : 'accepts'} ${what}`, () => {
    const failures = findFailures({ ...calm, ...run })
    assert.equal(failures.length, expected ? 1 : 0, failures.join('; '))
    if (expected) assert.match(failures.join(), expected)
  })
}

test('a seed determines the random numbers of each stream', () => {
  const draw = (...names: string[]) => {
    const random = randomFrom(...names)
    return Array.from({ length: 9 }, () => random.whole(0, 999))
  }
  assert.deepEqual(draw('7', 'kill'), draw('7', 'kill'))
  assert.notDeepEqual(draw('8', 'kill'), draw('7', 'kill'))
  assert.notDeepEqual(draw('7', 'stop'), draw('7', 'kill'))
})

const words = [script, '--no-build', '--workers', '8']

/** Runs the command line with temporary files in `tmp`. */
function command(tmp: string, ...args: string[]) {
  const env = { ...process.env, TMPDIR: tmp }
  return spawnSync(process.execPath, [...words, ...args], { env, encoding: 'utf8' })
}

// As in the workflow. The programs of Linux are missing there.
for (const [platform, stops] of [
  ['darwin', '[1-9]'],
  ['win32', '0'],
] as const) {
  test(`a stress test runs on ${platform}`, (t) => {
    const tmp = directory(t)
    const pretended = `Object.defineProperty(process, 'platform', { value: '${platform}' })`
    const args = ['--import', `data:text/javascript,${encodeURIComponent(pretended)}`, ...words]
    const { status, stdout, stderr } = spawnSync(
      process.execPath,
      [...args, '--seconds', '4', '--on', 'disk'],
      {
        env: { PATH: tmp, TEMP: tmp, TMPDIR: tmp, NAPI_RS_NATIVE_LIBRARY_PATH: join(root, fileOf(here)) },
        encoding: 'utf8',
      },
    )
    assert.equal(status, 0, stdout + stderr)
    assert.match(stdout, new RegExp(`^ +stops +${stops}`, 'm'))
    assert.match(stdout, /^1 passed, 0 failed, 0 skipped$/m)
  })
}

test('a stress test fails if it skips everything', (t) => {
  const tmp = directory(t)
  const env = { PATH: tmp, TMPDIR: tmp }
  const args = [...words, '--seconds', '1', '--on', 'disk']
  const { status, stdout } = spawnSync(process.execPath, args, { env, encoding: 'utf8' })
  assert.equal(status, 1)
  assert.match(stdout, /^native on disk: skipped: .*\n\n0 overlaps\n0 passed, 0 failed, 1 skipped$/m)
})

test('a filesystem is unmounted or skipped with a reason', (t) => {
  const tmp = directory(t)
  const { status, stdout } = command(tmp, '--seconds', '4', '--on', 'disk,overlayfs,nfs')
  assert.equal(status, 0, stdout)
  assert.deepEqual(readdirSync(tmp), [])
  assert.ok(!readFileSync('/proc/mounts', 'utf8').includes(tmp))
  for (const place of ['overlayfs', 'nfs'])
    assert.match(stdout, new RegExp(`^native on ${place}(: skipped: .+| \\(${place}\\))`, 'm'))
})

/** The processes whose arguments name a directory. */
const working = (path: string) =>
  readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .filter((pid) => {
      try {
        return readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes(path)
      } catch {
        return false
      }
    })
    .map(Number)

/** The process may have ended meanwhile. */
function signal(pid: number, name: NodeJS.Signals) {
  try {
    process.kill(pid, name)
  } catch (error) {
    assert.equal((error as NodeJS.ErrnoException).code, 'ESRCH')
  }
}

/** A run whose workers have all begun to write their logs. */
async function begun(t: TestContext, seconds: string) {
  const tmp = directory(t)
  const args = [script, '--no-build', '--seconds', seconds, '--workers', '4', '--on', 'disk', '--seed', '7']
  const env = { ...process.env, TMPDIR: tmp }
  const child: ChildProcess = spawn(process.execPath, args, { env, stdio: ['ignore', 'pipe', 'inherit'] })
  t.after(() => {
    child.kill('SIGKILL')
    for (const pid of working(tmp)) signal(pid, 'SIGKILL')
  })
  const run = { tmp, child, printed: '', exit: once(child, 'exit') }
  child.stdout?.on('data', (chunk) => {
    run.printed += chunk
  })
  const logs = () => readdirSync(tmp).find((name) => name.includes('logs'))
  await until(
    () => readdirSync(join(tmp, logs() ?? '')).filter((name) => name.endsWith('.log')).length >= 4,
    'every worker writes its log',
  )
  return run
}

test('Ctrl-C ends every worker and removes all files', async (t) => {
  const { tmp, child, exit } = await begun(t, '60')
  // A stopped worker does not end by itself.
  for (const pid of working(tmp)) signal(pid, 'SIGSTOP')
  child.kill('SIGINT')
  assert.deepEqual(await exit, [1, null])
  await until(() => working(tmp).length === 0, 'no worker is left')
  assert.deepEqual(readdirSync(tmp), [])
})

test('a worker that ends unexpectedly fails the run', async (t) => {
  const run = await begun(t, '2')
  for (const pid of working(run.tmp)) signal(pid, 'SIGKILL')
  assert.deepEqual(await run.exit, [1, null])
  assert.match(run.printed, /FAILED: w\d+ \(native\) ended by itself: SIGKILL/)
  assert.match(
    run.printed,
    /rerun: npm run stress -- --variant native --on disk --seconds 2 --workers 4 --seed 7$/m,
  )
  assert.match(run.printed, new RegExp(`logs: .*${readdirSync(run.tmp)[0]}$`, 'm'))
  assert.match(run.printed, /^0 passed, 1 failed, 0 skipped$/m)
})

test('a wrong option exits with 2 and prints the usage', (t) => {
  for (const args of [
    ['--seconds', '0'],
    ['--workers', '3'],
    ['--variant', 'native,'],
    ['--seed=-1'],
    ['surplus'],
  ]) {
    const { status, stdout, stderr } = command(directory(t), ...args)
    assert.deepEqual([status, stdout], [2, ''], args.join(' '))
    assert.match(stderr, /^(?!Usage).+\n\nUsage: npm run stress/)
  }
})
