// A process that holds or waits for many locks.
// Usage: node crowd.mjs DIRECTORY PATHS; orders come as lines on standard input:
//   hold N      acquires the locks of all PATHS, `held`
//   release 0   releases them, `released`
//   wait N      starts N calls that wait, spread over the paths, `waiting` with their number
//   measure MS  `measured` with JSON about the next MS milliseconds
//   finish 0    `served` with the number of calls that got their lock and released it, once all are settled
import { readdirSync, writeSync } from 'node:fs'
import { createRequire } from 'node:module'
import { createInterface } from 'node:readline'
import { setTimeout } from 'node:timers/promises'
import { root } from '../steps.mjs'

const { acquireLock, acquireLockSync } = createRequire(import.meta.url)(`${root}dist/index.js`)
const [cwd, paths] = process.argv.slice(2)
const fileOf = (number) => `${number % Number(paths)}.lock`
const say = (word, value) => writeSync(1, `${word} ${value}\n`)
const countThreads = () => readdirSync('/proc/self/task').length

const threadsBefore = countThreads()
const held = []
let settled = 0
/** @type {Promise<void>[]} */
let waits = []

async function wait(number) {
  const lock = await acquireLock({ cwd, file: fileOf(number), timeout: Infinity }).finally(() => {
    settled += 1
  })
  await lock.release()
}

/** Processor time in microseconds, and the most threads that were seen at the beginning and the end. */
async function measure(milliseconds) {
  const threads = countThreads()
  const before = process.cpuUsage()
  const from = performance.now()
  await setTimeout(milliseconds)
  const { user, system } = process.cpuUsage(before)
  const lasted = performance.now() - from
  const threadsWaiting = Math.max(threads, countThreads())
  return { busy: user + system, lasted, threadsBefore, threadsWaiting, settled }
}

const orders = {
  async hold() {
    for (let number = 0; number < Number(paths); number += 1)
      held.push(acquireLockSync({ cwd, file: fileOf(number) }))
    say('held', held.length)
  },
  async release() {
    for (const lock of held) lock.releaseSync()
    say('released', held.length)
  },
  async wait(count) {
    waits = Array.from({ length: count }, (_, number) => wait(number))
    say('waiting', count)
  },
  async measure(milliseconds) {
    say('measured', JSON.stringify(await measure(milliseconds)))
  },
  async finish() {
    await Promise.all(waits)
    say('served', waits.length)
  },
}

const lines = createInterface({ input: process.stdin })
lines.on('line', (line) => {
  const [order, value] = line.split(' ')
  orders[order](Number(value))
})
lines.on('close', () => process.exit(0))
say('ready', process.hrtime.bigint())
