// Acquires one of three slots again and again; prints how many are held, and fails if two hold the same slot.
// Usage: slots-process.mjs FILE ROUNDS KILL: it kills itself in round KILL while it holds the lock.
import { mkdirSync, readdirSync, rmSync } from 'node:fs'
import { basename, dirname } from 'node:path'
import { setTimeout } from 'node:timers/promises'
import { lock } from '../support/lock.mjs'

const { acquireLock, acquireLockSync } = lock

const [file = '', rounds, killedIn] = process.argv.slice(2)
const options = { file, slots: 3, timeout: 60_000 }
let most = 0
for (let round = 0; round < Number(rounds); round += 1) {
  const lock = round % 2 === 0 ? await acquireLock(options) : acquireLockSync(options)
  const inside = `${lock.path}.inside`
  if (lock.takenOver) rmSync(inside, { recursive: true, force: true })
  mkdirSync(inside)
  const held = readdirSync(dirname(file)).filter((name) => name.endsWith('.inside'))
  most = Math.max(most, held.length)
  await setTimeout(1)
  if (round === Number(killedIn)) process.kill(process.pid, 'SIGKILL')
  rmSync(inside, { recursive: true })
  lock.releaseSync()
}
console.log(`${basename(file)}: at most ${most}`)
