// A process of the stress test, started by `fork` with its setting as JSON, or a thread of one. It acquires, passes the
// critical section and releases. It logs each event by one call, so that a kill loses at most one line.
import { once } from 'node:events'
import { openSync, writeSync } from 'node:fs'
import { createRequire } from 'node:module'
import { setImmediate, setTimeout } from 'node:timers/promises'
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads'
import { now, randomFrom } from './random.mjs'

/**
 * `kind`: `legacy` for the TypeScript lock, anything else for this package. `index`: half of the native workers wait for
 * the lock, the others retry. `logsUnlinks`: legacy workers log their removals, which slows them down in their race.
 * `readers`: most attempts are in shared mode.
 */
const setting = isMainThread ? JSON.parse(process.argv[2]) : workerData
const { kind, index, name, cwd, logs, logsUnlinks, seed, slots = 1, readers, threads } = setting
const file = openSync(`${logs}/${name}.log`, 'a')
let refused = 0
let isStopped = false

function log(event, about = {}, at = now()) {
  const counted = refused > 0 ? `${JSON.stringify({ event: 'refused', count: refused })}\n` : ''
  refused = 0
  writeSync(file, `${counted}${JSON.stringify({ event, at: String(at), ...about })}\n`)
}

/** Counts refusals: a line for each would cost more than the refusal. */
function logRefusal() {
  refused += 1
  if (refused === 100) log('many')
}

/** Each kind of choice has its own stream, so that contention does not affect the length of sections. */
const [attempts, sections, pauses] = ['attempts', 'sections', 'pauses'].map((kind) =>
  randomFrom(seed, name, kind),
)

function spin(milliseconds) {
  const end = now() + BigInt(Math.round(milliseconds * 1e6))
  while (now() < end);
}

/** Mostly short, some longer. Half of the asynchronous sections yield to the event loop, as in programs. */
const length = () => (sections.chance(0.8) ? sections.between(0, 0.3) : sections.between(0.3, 3))
async function pass() {
  // Long enough that all slots are held at once, although the processors are fewer.
  if (slots > 1) return setTimeout(sections.between(1, 10))
  const milliseconds = length()
  if (sections.chance(0.5)) spin(milliseconds)
  else if (milliseconds < 1) await setImmediate()
  else await setTimeout(milliseconds)
}

/** All ways to use this package; `enter` and `leave` enclose the critical section. */
function nativeTurn() {
  const require = createRequire(import.meta.url)
  const { acquireLock, acquireLockSync, releaseLock, withLock } = require('reconcile-lock')
  const byRelease = (release) => async (options, enter, leave) => {
    const lock = await acquireLock(options)
    enter(lock)
    await pass()
    leave()
    await release(lock)
  }
  const ways = [
    byRelease((lock) => lock.release()),
    // As `await using` does, which Node.js 20 cannot parse.
    byRelease((lock) => lock[Symbol.asyncDispose]()),
    byRelease(({ path }) => releaseLock({ file: path })),
    (options, enter, leave) => {
      const lock = acquireLockSync(options)
      enter(lock)
      spin(length())
      leave()
      lock.releaseSync()
    },
    (options, enter, leave) =>
      withLock(async (lock) => {
        enter(lock)
        await pass()
        leave()
      }, options),
  ]
  return (entered, leave) => {
    const way = attempts.pick(ways)
    const timeout = attempts.between(10, 400)
    // The default file name needs both.
    const mode = readers ? { legacy: false, shared: attempts.chance(0.7) } : {}
    const asked = now()
    const enter = (lock) => {
      const at = now()
      // The record has the time in whole milliseconds, and was not written before the call.
      const age = Math.max(0, Date.now() - lock.holder.createdAt) + 1
      const written = at - BigInt(age) * 1_000_000n
      const since = String(written > asked ? written : asked)
      const { shared } = mode
      log('enter', { since, takenOver: lock.takenOver !== undefined, path: lock.path, shared }, at)
      entered()
    }
    return way({ cwd, slots, ...mode, timeout: index % 2 === 0 ? timeout : 0 }, enter, leave)
  }
}

async function legacyTurn() {
  const legacy = await import('../../build/__test__/legacy/lock.mjs')
  return async (entered, leave) => {
    let takenOver = false
    let unlinking = false
    const logUnlink = (event) => logsUnlinks && log(event)
    const unlinked = async () => {
      if (unlinking) logUnlink('unlinked')
      unlinking = false
    }
    const beforeUnlink = async () => {
      unlinking = true
      takenOver = true
      logUnlink('unlink')
    }
    await legacy.acquireLock(cwd, { beforeUnlink, beforeCreate: unlinked }).finally(unlinked)
    const at = now()
    log('enter', { since: String(at), takenOver }, at)
    entered()
    await pass()
    leave()
    logUnlink('unlink')
    await legacy.releaseLock(cwd)
    logUnlink('unlinked')
  }
}

async function loop() {
  const turn = await (kind === 'legacy' ? legacyTurn : nativeTurn)()
  while (!isStopped) {
    let isInside = false
    try {
      await turn(
        () => {
          isInside = true
        },
        () => log('exit'),
      )
    } catch (error) {
      const during = isInside ? 'release' : 'acquire'
      if (!isInside && error.code === 'E_LOCK_CONTENTION') logRefusal()
      else log('error', { during, code: error.code ?? error.name, message: error.message })
    }
    // Yields, so that the event loop reads the stop message.
    await (pauses.chance(0.5) ? setImmediate() : setTimeout(pauses.between(0, 2)))
  }
  log('end')
}

/** Runs threads; a terminated one is replaced. */
async function runThreads() {
  let serial = 0
  const running = []
  const start = (place) => {
    const data = { ...setting, name: `${name}.${serial}`, index: serial }
    serial += 1
    const worker = new Worker(new URL(import.meta.url), { workerData: data })
    running[place] = { worker, name: data.name, ready: once(worker, 'message') }
  }
  for (let place = 0; place < threads; place += 1) start(place)
  process.on('message', (message) => {
    const { worker, name } = running[message.terminate] ?? {}
    if (!worker) for (const { worker } of running) worker.postMessage(message)
    else {
      log('terminate', { thread: name })
      worker.terminate()
      log('terminated', { thread: name })
      start(message.terminate)
    }
  })
  const messages = await Promise.all(running.map(({ ready }) => ready))
  return messages.at(-1)[0]
}

function stop() {
  isStopped = true
  if (!isMainThread) parentPort.close()
  // Later, because Node.js cannot disconnect while it delivers messages that waited for a listener.
  else globalThis.setImmediate(() => process.disconnect())
}

const port = isMainThread ? process : parentPort
port.on('message', (message) => {
  if (message === 'stop') stop()
})
// The parent may have been killed.
if (isMainThread) process.on('disconnect', () => isStopped || process.exit(1))

/** A function, because V8 ends the process when a thread is terminated during a top-level `await`. */
async function main() {
  if (isMainThread) {
    const ready = threads > 0 ? await runThreads() : String(now())
    // The test may end before the threads have started.
    if (process.connected) process.send({ ready })
  } else parentPort.postMessage(String(now()))
  if (threads === 0 || !isMainThread) await loop()
}

main()
