// Waits for locks on command, in a separate process or worker thread.
import { subscribe } from 'node:diagnostics_channel'
import { appendFileSync, closeSync, openSync, readdirSync, readFileSync } from 'node:fs'
import * as fs from 'node:fs/promises'
import { setTimeout as delay } from 'node:timers/promises'
import { parentPort, Worker } from 'node:worker_threads'
import type { LockChannels, LockError, WaitStatus } from 'reconcile-lock'
import { isLinux } from './directory.mjs'
import { lock } from './lock.mjs'
import { sleep } from './time.mjs'
import { type Message, now, type Order, type Outcome, type Usage } from './waiter.mjs'

const { acquireLock, acquireLockSync, releaseLock } = lock

const send = (message: Message) => {
  if (parentPort) parentPort.postMessage(message)
  else if (process.connected) process.send?.(message)
}

let thread: Worker | undefined

function inThread(message: Order & { number: number }): void {
  thread ??= new Worker(new URL(import.meta.url)).on('message', send)
  thread.postMessage({ ...message, inThread: false })
}

/** Reports the start of each quiet wait: `contended` is published once for each. */
const refusals: ((begun: WaitStatus) => void)[] = []
subscribe('reconcile-lock:contended', (message) => {
  refusals.shift()?.({ ...(message as LockChannels['reconcile-lock:contended']), waited: 0 })
})

type Wait = Extract<Order, { do: 'wait' }>

async function wait({ form, options, abortAfter, quiet }: Wait, number: number): Promise<Outcome> {
  const before = performance.now()
  const signal = abortAfter === undefined ? undefined : AbortSignal.timeout(abortAfter)
  const onWait = quiet ? undefined : (begun: WaitStatus) => send({ number, begun })
  if (quiet) refusals.push((begun) => send({ number, begun }))
  try {
    const acquire = form === 'sync' ? acquireLockSync : acquireLock
    const { takenOver } = await acquire({ ...options, signal, onWait })
    return { ok: true, at: now(), took: performance.now() - before, takenOver }
  } catch (error) {
    const { code, message, reason, holder } = error as LockError
    return { ok: false, at: now(), took: performance.now() - before, code, message, reason, holder }
  }
}

/** Acquires in a loop, and logs when it holds the lock. */
async function takeTurns({ cwd, turns, log }: Extract<Order, { do: 'turns' }>): Promise<void> {
  for (let turn = 0; turn < turns; turn += 1) {
    const lock = await acquireLock({ cwd, timeout: 60_000 })
    appendFileSync(log, `+${process.pid}\n`)
    // A process that does not respect the lock would log in between.
    await new Promise((resolve) => setImmediate(resolve))
    appendFileSync(log, `-${process.pid}\n`)
    await lock.release()
  }
}

function usage(): Usage {
  const { user, system } = process.cpuUsage()
  const cpu = (user + system) / 1000
  if (!isLinux) return { cpu, threads: Number.NaN, descriptors: Number.NaN }
  const [, threads] = /^Threads:\s+(\d+)/m.exec(readFileSync('/proc/self/status', 'utf8')) ?? []
  return { cpu, threads: Number(threads), descriptors: readdirSync('/proc/self/fd').length }
}

/** Starts and ends waits in a loop, and returns the longest time that the event loop was blocked. */
async function restless(order: Extract<Order, { do: 'restless' }>): Promise<number> {
  let longest = 0
  let last = performance.now()
  const end = last + order.for
  const waits: Promise<unknown>[] = []
  while (last < end) {
    const signal = AbortSignal.timeout(40)
    const waiting = acquireLock({ cwd: order.cwd, timeout: 10_000, signal, onWait() {} })
    waits.push(waiting.then((lock) => lock.release()).catch(() => {}))
    await sleep(10, 'the pace of waits that begin and end')
    longest = Math.max(longest, performance.now() - last)
    last = performance.now()
  }
  await Promise.all(waits)
  return longest
}

/**
 * How long the pool of libuv takes to read files. A FIFO without a writer blocks one of its threads; the
 * result is infinite if no other thread reads them.
 */
async function readFiles(fifo: string | undefined): Promise<number> {
  const before = performance.now()
  const hanging = fifo === undefined ? undefined : fs.open(fifo, 'r')
  const reading = (async () => {
    for (let index = 0; index < 50; index += 1) await fs.readFile('/proc/self/stat')
    return performance.now() - before
  })()
  const limit = fifo === undefined ? 10_000 : 500
  const took = await Promise.race([reading, delay(limit, Number.POSITIVE_INFINITY)])
  if (fifo !== undefined) closeSync(openSync(fifo, 'r+'))
  await hanging?.then((file) => file.close())
  await reading
  return took
}

async function act(order: Order, number: number): Promise<unknown> {
  switch (order.do) {
    case 'wait':
      return wait(order, number)
    case 'release':
      return releaseLock(order.cwd)
    case 'turns':
      return takeTurns(order)
    case 'usage':
      return usage()
    case 'restless':
      return restless(order)
    case 'files':
      return readFiles(order.fifo)
    case 'exit':
      return process.exit(7)
    case 'throw':
      setImmediate(() => {
        throw new Error('uncaught, on purpose')
      })
      return undefined
    case 'disconnect':
      return process.disconnect()
    case 'terminate': {
      const before = performance.now()
      await thread?.terminate()
      thread = undefined
      return performance.now() - before
    }
  }
}

const onOrder = (message: Order & { number: number }) => {
  if (message.inThread) return inThread(message)
  const { number } = message
  act(message, number).then(
    (value) => send({ number, value }),
    (error) => send({ number, failed: String(error?.stack ?? error) }),
  )
}
if (parentPort) parentPort.on('message', onOrder)
else process.on('message', onOrder)
