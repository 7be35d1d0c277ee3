// Acquire and release, and refused acquires, beside other locks and beside the least that a lock file can cost.
import { join } from 'node:path'
import { batch, measure } from './batch.mjs'
import { floorOn } from './floor.mjs'
import { columns, whole } from './report.mjs'
import { takeTurns } from './rounds.mjs'
import { median } from './statistics.mjs'

const operations = { '': '', pair: 'acquire + release', refused: 'refused acquire' }

/** Starts what holds the locks of refused acquires; they end with this process. */
async function contendersIn(directory, executable) {
  // Only after the build there is anything to import.
  const { pairs, refusals } = await import('./contenders.mjs')
  const { contenders, holders } = await refusals(directory)
  process.on('exit', () => {
    for (const holder of holders) holder.kill('SIGKILL')
  })
  const floor = floorOn(executable, join(directory, 'floor.lock'))
  return [
    { operation: '', name: 'floor', sample: async () => floor() },
    ...[...pairs(directory), ...contenders].map((contender) => ({
      ...contender,
      sample: () => measure(contender),
    })),
  ]
}

function rowsOf(results) {
  const head = ['operation', 'contender', 'median ns', 'min ns', 'x floor']
  const rows = results.map(({ operation, name, medianNs, minNs, ratio }) => [
    operations[operation],
    name,
    whole(medianNs),
    whole(minNs),
    ratio.toFixed(2),
  ])
  return columns([head, ...rows], 2)
}

/** Measures on all media at once; a result for each. */
export async function pairs({ media, executables, rounds }) {
  const contenders = []
  for (const { name: medium, directory } of media)
    for (const contender of await contendersIn(directory, executables.floor))
      contenders.push({ medium, ...contender })
  const samples = await takeTurns(contenders, rounds)
  const medians = samples.map(median)
  return media.map(({ name: medium }) => {
    const floor = contenders.findIndex((contender) => contender.medium === medium)
    const results = contenders.flatMap((contender, index) => {
      if (contender.medium !== medium) return []
      const { operation, name } = contender
      const minNs = Math.min(...samples[index])
      const ratio = medians[index] / medians[floor]
      return [{ operation, name, medianNs: medians[index], minNs, ratio, rounds: samples[index] }]
    })
    const figures = Object.fromEntries(
      results.map(({ operation, name, medianNs }) => [[operation, name].join(' ').trim(), medianNs]),
    )
    const few = rounds < 15 ? ' (fewer than 15: only good for a quick look)' : ''
    const head = `nanoseconds per operation; ${rounds} interleaved rounds${few}, ${batch} ms each`
    return { medium, results, figures, text: `${head}\n${rowsOf(results)}` }
  })
}
