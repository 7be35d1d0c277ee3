// A process that acquires and releases one lock again and again, beside others, and tells afterwards when.
// Usage: node racer.mjs DIRECTORY TIMES HELD, HELD in milliseconds. `go NS` on standard input says when to start,
// by CLOCK_MONOTONIC; the answer is `done` with JSON: the moments before each call, of the entry and of the exit, and the
// processor time, in microseconds.
import { writeSync } from 'node:fs'
import { createRequire } from 'node:module'
import { createInterface } from 'node:readline'
import { setTimeout } from 'node:timers/promises'
import { root } from '../steps.mjs'

const { acquireLock } = createRequire(import.meta.url)(`${root}dist/index.js`)
const [cwd, times, held] = process.argv.slice(2)
const now = () => process.hrtime.bigint()

async function race() {
  const options = { cwd, timeout: Infinity }
  const before = process.cpuUsage()
  const moments = []
  for (let turn = 0; turn < Number(times); turn += 1) {
    const asked = now()
    const lock = await acquireLock(options)
    const enter = now()
    if (held !== '0') await setTimeout(Number(held))
    moments.push([asked, enter, now()].map(String))
    await lock.release()
  }
  const { user, system } = process.cpuUsage(before)
  return { moments, busy: user + system }
}

const lines = createInterface({ input: process.stdin })
lines.once('line', async (line) => {
  await setTimeout(Number(BigInt(line.slice('go '.length)) - now()) / 1e6)
  writeSync(1, `done ${JSON.stringify(await race())}\n`)
})
lines.on('close', () => process.exit(0))
writeSync(1, `ready ${now()}\n`)
