// Repeats one kind of call, and samples the resources of this process.
import { openSync, readdirSync, readFileSync } from 'node:fs'
import type { AcquireOptions } from 'reconcile-lock'
import { lock } from '../support/lock.mjs'
import type { Sample } from './soak.test.mjs'

const [cwd = '', what = '', count = '', leak] = process.argv.slice(2)

const refused = (error: unknown) => {
  if ((error as NodeJS.ErrnoException).code !== 'E_LOCK_CONTENTION') throw error
}
const wrong = (error: unknown) => {
  if (!String((error as NodeJS.ErrnoException).code).startsWith('ERR_')) throw error
}
const unexpected = () => {
  throw new Error('the call was not refused')
}
function throws(call: () => unknown, check: (error: unknown) => void): void {
  try {
    call()
  } catch (error) {
    check(error)
    return
  }
  unexpected()
}

const options = [
  { cwd: 1 },
  { timeout: -1 },
  { timeout: Number.NaN },
  { timeout: '1' },
  { unknown: 1 },
  { file: '' },
  { file: 'a/' },
  { file: 'a\0b' },
  { message: {} },
  { signal: 1 },
  { cwd: '\ud800' },
  null,
  5,
  [],
] as unknown as AcquireOptions[]

/** Between synchronous calls, the event loop does not turn. */
const calls: Record<string, (index: number) => unknown> = {
  pairs: () => lock.acquireLockSync(cwd).releaseSync(),
  refused: () => throws(() => lock.acquireLockSync(cwd), refused),
  rejected(index) {
    const bad = options[index % options.length]
    if (index % 4 === 0) throws(() => lock.acquireLockSync(bad), wrong)
    else if (index % 4 === 1) throws(() => lock.inspectLockSync(bad), wrong)
    else if (index % 4 === 2) throws(() => lock.releaseLockSync(bad), wrong)
    else return lock.acquireLock(bad).then(unexpected, wrong)
  },
  pairsAsync: async () => (await lock.acquireLock(cwd)).release(),
  nothing() {},
  refusedAsync: () => lock.acquireLock(cwd).then(unexpected, refused),
}

function sample(): Sample {
  globalThis.gc?.()
  const [, threads] = /^Threads:\s+(\d+)/m.exec(readFileSync('/proc/self/status', 'utf8')) ?? []
  const descriptors = readdirSync('/proc/self/fd').length
  return { rss: process.memoryUsage.rss(), descriptors, threads: Number(threads) }
}

const call = calls[what] ?? unexpected
const kept: unknown[] = []
async function round(): Promise<Sample[]> {
  const samples: Sample[] = []
  const every = Number(count) / 100
  for (let index = 0; index < Number(count); index += 1) {
    const result = call(index)
    // An `await` of no promise would cost more than a call.
    if (result !== undefined) await result
    if (leak === 'memory' && index % 1000 === 0) kept.push(Buffer.alloc(16_000, 1))
    if (leak === 'descriptors' && index % 1000 === 0) openSync(cwd, 'r')
    if (index % every === every - 1) samples.push(sample())
  }
  return samples
}
process.on('message', async () => process.send?.(await round()))
