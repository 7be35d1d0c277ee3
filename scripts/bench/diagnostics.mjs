// What it costs to publish what happens, while somebody listens and while nobody does.
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { batch } from './batch.mjs'
import { Peer } from './peers.mjs'
import { columns, whole } from './report.mjs'
import { takeTurns } from './rounds.mjs'
import { median } from './statistics.mjs'

const pairPath = fileURLToPath(new URL('pair.mjs', import.meta.url))
const contenders = [
  { name: 'binding alone', kind: 'binding' },
  { name: 'without channels', kind: 'silent' },
  { name: 'nobody listens', kind: 'unheard' },
  { name: 'all are listened to', kind: 'heard' },
]

async function start(parent, kind) {
  const directory = join(parent, `diagnostics-${kind}`)
  mkdirSync(directory, { recursive: true })
  const peer = await new Peer([process.execPath, pairPath, kind, directory]).isReady()
  const sample = async () => {
    peer.tell('measure')
    return Number(await peer.says('mean'))
  }
  const compute = async () => {
    peer.tell('compute')
    return Number(await peer.says('computed'))
  }
  return { sample, compute }
}

/**
 * How much of messages is made, for each pair; a count that finds nothing where they are made finds nothing at all.
 * It is counted in processes of their own, which replace the clocks before they load the package.
 */
async function computedBy(directory) {
  const [unheard, heard] = await Promise.all(['unheard', 'heard'].map((kind) => start(directory, kind)))
  const computed = { unheard: await unheard.compute(), heard: await heard.compute() }
  if (computed.heard === 0) throw new Error('messages were published and nothing was seen to be computed')
  return computed
}

export async function diagnostics({ directory, rounds }) {
  const started = await Promise.all(contenders.map(({ kind }) => start(directory, kind)))
  const samples = await takeTurns(started, rounds)
  const results = contenders.map(({ name }, index) => ({
    name,
    medianNs: median(samples[index]),
    rounds: samples[index],
  }))
  const computed = await computedBy(directory)
  const figures = Object.fromEntries(results.map(({ name, medianNs }) => [name, medianNs]))
  figures['computed for nobody'] = computed.unheard
  const head = ['acquireLockSync + releaseSync', 'median ns', 'x binding']
  const rows = results.map(({ name, medianNs }) => [
    name,
    whole(medianNs),
    (medianNs / results[0].medianNs).toFixed(3),
  ])
  const about = `what the diagnostics channels cost; ${rounds} interleaved rounds, ${batch} ms each`
  const reads = `  reads of a clock or the holder for each pair: ${computed.unheard} if nobody listens, ${computed.heard} if all are listened to`
  return {
    results: { pairs: results, computed },
    figures,
    text: `${about}\n${columns([head, ...rows], 1)}\n${reads}`,
  }
}
