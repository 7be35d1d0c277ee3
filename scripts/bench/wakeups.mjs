// What a release costs the processes that wait and are not next.
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { now, Peer } from './peers.mjs'
import { whole } from './report.mjs'

const racerPath = fileURLToPath(new URL('racer.mjs', import.meta.url))
const few = 2
const many = 30
const times = 40
/** How long the lock is held each time, in milliseconds: all others wait by then. */
const held = 10

/** Processor time for each acquisition, in microseconds. */
async function busy(directory, processes) {
  mkdirSync(directory)
  const command = [process.execPath, racerPath, directory, String(times), String(held)]
  const racers = await Promise.all(Array.from({ length: processes }, () => new Peer(command).isReady()))
  for (const racer of racers) racer.tell(`go ${now() + 200_000_000n}`)
  const said = await Promise.all(racers.map((racer) => racer.says('done')))
  await Promise.all(racers.map((racer) => racer.kill()))
  return said.reduce((sum, text) => sum + JSON.parse(text).busy, 0) / (processes * times)
}

export async function wakeups({ directory }) {
  const results = { few: 0, many: 0 }
  results.few = await busy(join(directory, 'wakeups-few'), few)
  results.many = await busy(join(directory, 'wakeups-many'), many)
  const each = (results.many - results.few) / (many - few)
  const text = [
    `processor time of all for each acquisition, held for ${held} ms`,
    `  ${few} processes: ${whole(results.few)} us, ${many} processes: ${whole(results.many)} us`,
    `  each process that is not next: ${whole(each)} us`,
  ].join('\n')
  return { results, figures: { each }, text }
}
