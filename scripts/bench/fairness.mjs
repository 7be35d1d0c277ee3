// Whether anybody starves: many processes that all want the same lock many times.
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { now, Peer } from './peers.mjs'
import { whole } from './report.mjs'
import { countOverlaps, shares } from './statistics.mjs'

const racerPath = fileURLToPath(new URL('racer.mjs', import.meta.url))
const processes = 16
const times = 200
/** How long the lock is held each time, in milliseconds. */
const variants = [0, 1]
/** Time for everyone to hear the start signal, in nanoseconds. */
const notice = 200_000_000n

function holdOf(moments) {
  const [asked, enter, exit] = moments.map(BigInt)
  return { asked, enter, exit }
}

async function race(directory, held) {
  mkdirSync(directory)
  const command = [process.execPath, racerPath, directory, String(times), String(held)]
  const racers = await Promise.all(Array.from({ length: processes }, () => new Peer(command).isReady()))
  const start = now() + notice
  for (const racer of racers) racer.tell(`go ${start}`)
  const said = await Promise.all(racers.map((racer) => racer.says('done')))
  await Promise.all(racers.map((racer) => racer.kill()))
  const holds = said.map((text) => JSON.parse(text).moments.map(holdOf))
  const all = holds.flat()
  const milliseconds = Math.max(...all.map(({ exit }) => Number(exit - start))) / 1e6
  const longest = Math.max(...all.map(({ asked, enter }) => Number(enter - asked))) / 1e6
  const overlaps = countOverlaps(all)
  return { held, acquisitions: all.length, milliseconds, longest, overlaps, ...shares(holds) }
}

function describe({ held, acquisitions, milliseconds, longest, overlaps, counts, ratio }) {
  const each = whole((milliseconds * 1000) / acquisitions)
  return [
    `  held for ${held} ms: ${whole(acquisitions)} acquisitions in ${whole(milliseconds)} ms, ${each} us each`,
    `    longest wait ${whole(longest)} ms, ${overlaps} overlaps`,
    `    of the first half each process had ${counts.toSorted((a, b) => b - a).join(' ')}`,
    `    largest / smallest ${ratio.toFixed(2)}`,
  ].join('\n')
}

export async function fairness({ directory }) {
  const results = []
  for (const held of variants) results.push(await race(join(directory, `fairness-${held}`), held))
  const figures = Object.fromEntries(
    results.flatMap(({ held, ratio, overlaps }) => [
      [`share ${held}`, ratio],
      [`overlaps ${held}`, overlaps],
    ]),
  )
  const head = `${processes} processes that each acquire ${times} times, asynchronously, timeout: Infinity`
  return { results, figures, text: [head, ...results.map(describe)].join('\n') }
}
