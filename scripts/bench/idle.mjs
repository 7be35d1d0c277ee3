// What those who wait take of the machine.
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { asleep, now, Peer } from './peers.mjs'

const crowdPath = fileURLToPath(new URL('crowd.mjs', import.meta.url))
const waiters = 200
const numbersOfPaths = [1, 200]
/** How long is measured, in milliseconds. */
const span = 5000
/** Until threads that have nothing left to do have ended, in milliseconds. */
const settling = 1000

async function crowd(directory, paths) {
  mkdirSync(directory)
  const command = [process.execPath, crowdPath, directory, String(paths)]
  const [holder, waiter] = await Promise.all([new Peer(command).isReady(), new Peer(command).isReady()])
  holder.tell('hold 0')
  await holder.says('held')
  waiter.tell(`wait ${waiters}`)
  await waiter.says('waiting')
  await setTimeout(settling)
  await asleep(waiter.child.pid)
  waiter.tell(`measure ${span}`)
  const { busy, lasted, threadsBefore, threadsWaiting, settled } = JSON.parse(await waiter.says('measured'))
  if (settled > 0) throw new Error(`${settled} of ${waiters} calls did not wait for the holder`)
  const from = now()
  holder.tell('release 0')
  waiter.tell('finish 0')
  // It proves that they did wait: each gets the lock in the end.
  const served = Number(await waiter.says('served'))
  const milliseconds = Number(now() - from) / 1e6
  await Promise.all([holder.kill(), waiter.kill()])
  const percent = busy / 10 / lasted
  return { paths, percent, threadsBefore, threadsWaiting, served, milliseconds }
}

const describe = ({ paths, percent, threadsBefore, threadsWaiting, served, milliseconds }) =>
  `  on ${paths} ${paths === 1 ? 'path' : 'paths'}: ${percent.toFixed(3)} % of a processor, ` +
  `${threadsWaiting} threads (${threadsBefore} before); ` +
  `then all ${served} got the lock within ${milliseconds.toFixed(0)} ms`

export async function idle({ directory }) {
  const results = []
  for (const paths of numbersOfPaths) results.push(await crowd(join(directory, `idle-${paths}`), paths))
  const figures = Object.fromEntries(
    results.flatMap(({ paths, percent, threadsBefore, threadsWaiting }) => [
      [`percent ${paths}`, percent],
      [`threads ${paths}`, threadsWaiting - threadsBefore],
    ]),
  )
  const head = `${waiters} calls of one process that wait for ${span / 1000} s, asynchronously`
  return { results, figures, text: [head, ...results.map(describe)].join('\n') }
}
