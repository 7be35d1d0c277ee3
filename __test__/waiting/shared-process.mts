// Acquires a lock again and again until its input ends; prints the longest wait after 20 times, in milliseconds.
// Usage: shared-process.mjs FILE shared|exclusive HOLD, with HOLD in milliseconds.
import { setTimeout } from 'node:timers/promises'
import { lock } from '../support/lock.mjs'

const { acquireLock } = lock

const [file = '', mode, hold] = process.argv.slice(2)
let isOver = false
process.stdin.on('end', () => {
  isOver = true
})
process.stdin.resume()
let longest = 0
for (let acquired = 1; !isOver; acquired += 1) {
  const asked = performance.now()
  const lock = await acquireLock({ file, shared: mode === 'shared', timeout: 60_000 })
  longest = Math.max(longest, performance.now() - asked)
  if (acquired === 20) console.log(Math.round(longest))
  await setTimeout(Number(hold))
  await lock.release()
}
