// A process that runs for months: what it uses must not grow with the number of its calls.
import assert from 'node:assert/strict'
import { fork } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, statfsSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { type TestContext, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { acquireLock } from 'reconcile-lock'
import { directory } from '../support/directory.mjs'
import { type KnownFailure, knownFailure } from '../support/known-failure.mjs'

export interface Sample {
  rss: number
  descriptors: number
  threads: number
}

const soak = fileURLToPath(new URL('soak-process.mjs', import.meta.url))
const TMPFS = 0x01021994
const isTmpfs = (path: string) => existsSync(path) && statfsSync(path).type === TMPFS
const parent = isTmpfs('/dev/shm') ? '/dev/shm' : tmpdir()

/** Less than half a million leaks of the smallest block that malloc gives (16 bytes). */
const GROWTH = 4_000_000
/** A leak grows in each round of calls; what an engine has taken for itself does not grow in the next one. */
const ROUNDS = 3
/** The pool's threads; it keeps one or two for calls that follow each other. */
const THREADS = 4

const mean = (samples: Sample[]) => samples.reduce((sum, { rss }) => sum + rss, 0) / samples.length
const mega = (bytes: number) => `${(bytes / 1e6).toFixed(2)} MB`

/** What a process uses over `count` calls, of which each tenth gives ten samples: the best of the rounds. */
async function usage(t: TestContext, cwd: string, what: string, count: number, leak = '') {
  // Newer engines let the space for young objects grow with the work that is done in it.
  const execArgv = ['--expose-gc', '--max-semi-space-size=1']
  const child = fork(soak, [cwd, what, String(count), leak], { execArgv })
  t.after(() => child.kill('SIGKILL'))
  const ended = once(child, 'exit').then(([code]) => {
    throw new Error(`${what} ended with ${code}`)
  })
  for (let round = 1; ; round += 1) {
    child.send('round')
    const [samples] = (await Promise.race([once(child, 'message'), ended])) as [Sample[]]
    const used = difference(samples)
    t.diagnostic(`${count} ${what}, round ${round}: ${JSON.stringify(used)}`)
    if (leaks(used).length === 0 || round === ROUNDS) return used
  }
}

function difference(samples: Sample[]) {
  assert.equal(samples.length, 100)
  const [first, last] = [samples.slice(0, 10), samples.slice(-10)]
  const more = (of: 'descriptors' | 'threads') =>
    Math.max(...last.map((sample) => sample[of])) - (samples[0]?.[of] ?? 0)
  return {
    growth: mean(last) - mean(first),
    descriptors: more('descriptors'),
    threads: more('threads'),
  }
}

/** What a process has more of than it may, in words. */
const leaks = ({ growth, descriptors, threads }: ReturnType<typeof difference>) => [
  ...(growth > GROWTH ? [`memory grew by ${mega(growth)}`] : []),
  ...(descriptors > 0 ? [`${descriptors} descriptors are left open`] : []),
  ...(threads > THREADS ? [`${threads} threads more`] : []),
]

const noMemory: KnownFailure = {
  platform: 'musl',
  why: "qemu makes up a process' own /proc/self/stat, and with it no resident memory",
  sometimes: true,
}

for (const [count, what, name] of [
  [500_000, 'pairs', 'acquires and releases'],
  [500_000, 'refused', 'refused acquires'],
  [500_000, 'rejected', 'calls with wrong arguments'],
  [100_000, 'pairsAsync', 'asynchronous acquires and releases'],
  [100_000, 'refusedAsync', 'asynchronous refused acquires'],
] as const) {
  test(
    `${count} ${name} leave memory, descriptors and threads as they were`,
    knownFailure(noMemory, async (t) => {
      const cwd = directory(t, parent)
      const held = what.startsWith('refused') ? await acquireLock(cwd) : undefined
      const used = await usage(t, cwd, what, count)
      await held?.release()
      assert.deepEqual(leaks(used), [])
    }),
  )
}

test(
  'the control: a leak of 16 bytes for each call and of a descriptor for a thousand is seen',
  knownFailure(noMemory, async (t) => {
    const cwd = directory(t, parent)
    const memory = await usage(t, cwd, 'nothing', 500_000, 'memory')
    assert.ok(memory.growth > GROWTH, `memory grew by ${mega(memory.growth)} only`)
    assert.ok((await usage(t, cwd, 'nothing', 20_000, 'descriptors')).descriptors > 0)
  }),
)
