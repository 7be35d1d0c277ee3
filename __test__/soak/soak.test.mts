// For processes that run for months: the resources must not grow with the number of calls.
import assert from 'node:assert/strict'
import { fork } from 'node:child_process'
import { existsSync, statfsSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { type TestContext, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { acquireLock } from 'reconcile-lock'
import { nextMessage } from '../support/child.mjs'
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

const CALLS = 250_000
/** In bytes: half of what a leak of the smallest block of malloc (16 bytes) in each call adds. */
const GROWTH = 8 * CALLS
/** A leak grows in each round of calls; the engine's own memory does not grow in the next one. */
const ROUNDS = 3
/** The threads of the pool, which keeps one or two between calls. */
const THREADS = 4

const mean = (samples: Sample[]) => samples.reduce((sum, { rss }) => sum + rss, 0) / samples.length
const mega = (bytes: number) => `${(bytes / 1e6).toFixed(2)} MB`

/** The growth over `count` calls, with ten samples in each tenth of them: the best of the rounds. */
async function usage(t: TestContext, cwd: string, what: string, count: number, leak = '') {
  // Newer engines grow the space for young objects with their use.
  const execArgv = ['--expose-gc', '--max-semi-space-size=1']
  const child = fork(soak, [cwd, what, String(count), leak], { execArgv })
  t.after(() => child.kill('SIGKILL'))
  for (let round = 1; ; round += 1) {
    const samples = nextMessage<Sample[]>(child)
    child.send('round')
    const used = difference(await samples)
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

/** The resources that grew beyond their bounds, in words. */
const leaks = ({ growth, descriptors, threads }: ReturnType<typeof difference>) => [
  ...(growth > GROWTH ? [`memory grew by ${mega(growth)}`] : []),
  ...(descriptors > 0 ? [`${descriptors} descriptors are left open`] : []),
  ...(threads > THREADS ? [`${threads} threads were added`] : []),
]

const noMemory: KnownFailure = {
  platform: 'qemu',
  why: 'qemu emulates /proc/self/stat, without the resident memory',
  sometimes: true,
}

for (const [count, what, name] of [
  [CALLS, 'pairs', 'acquires and releases'],
  [CALLS, 'refused', 'refused acquires'],
  [CALLS, 'rejected', 'calls with wrong arguments'],
  [CALLS / 5, 'pairsAsync', 'asynchronous acquires and releases'],
  [CALLS / 5, 'refusedAsync', 'asynchronous refused acquires'],
] as const) {
  test(
    `${count} ${name} do not leak`,
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
  'the check detects a leak of memory or descriptors',
  knownFailure(noMemory, async (t) => {
    const cwd = directory(t, parent)
    const memory = await usage(t, cwd, 'nothing', CALLS, 'memory')
    assert.ok(memory.growth > GROWTH, `memory grew by ${mega(memory.growth)} only`)
    assert.ok((await usage(t, cwd, 'nothing', 20_000, 'descriptors')).descriptors > 0)
  }),
)
