// `npm run bench`: what a lock costs, beside other locks and beside the least that a lock file can cost.
import { rmSync, writeFileSync } from 'node:fs'
import { cpus } from 'node:os'
import { join } from 'node:path'
import { setImmediate } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { buildFloor, floorOn } from './bench/floor.mjs'
import { media as findMedia } from './bench/media.mjs'
import { judge, median, table, verdicts } from './bench/report.mjs'
import { build, install, root, run } from './steps.mjs'

const help = `Usage: npm run bench -- [options]

  --rounds N    how often every contender runs (default 21; the median of the rounds is reported)
  --json FILE   also write every round's figures to FILE
  --check       exit with 1 if a target is missed
  --help        show this`

/** How long one contender runs in one round, in milliseconds: short, so that a noisy spell hits all of them. */
const batch = 40

function options() {
  try {
    const { values } = parseArgs({
      options: {
        rounds: { type: 'string', default: '21' },
        json: { type: 'string' },
        check: { type: 'boolean', default: false },
        help: { type: 'boolean', default: false },
      },
    })
    const rounds = Number(values.rounds)
    if (!Number.isSafeInteger(rounds) || rounds < 1)
      throw new Error(`--rounds ${values.rounds}: a number from 1`)
    return { ...values, rounds }
  } catch (error) {
    console.error(`${error.message}\n\n${help}`)
    process.exit(2)
  }
}

const { rounds, json, check, help: helpWanted } = options()
if (helpWanted) {
  console.log(help)
  process.exit(0)
}

install()
build()
run(join(root, 'node_modules/.bin/tsc'), ['-p', '.'])
const executable = buildFloor()
// Only now is there anything to import.
const { Bench } = await import('tinybench')
const { pairs, refusals } = await import('./bench/contenders.mjs')

/** The mean of one batch in nanoseconds: the floor's loop yields a mean too. */
async function measure({ name, async, fn }) {
  const bench = new Bench({ time: batch, iterations: 16, warmup: false, throws: true })
  bench.add(name, fn, { async })
  // `run` would put a promise around every synchronous call.
  const [task] = async ? await bench.run() : bench.runSync()
  return task.result.latency.mean * 1e6
}

const media = findMedia()
const measured = media.filter((medium) => !medium.skipped)
const holders = []
process.on('exit', () => {
  for (const holder of holders) holder.kill('SIGKILL')
  for (const { directory } of measured) rmSync(directory, { recursive: true, force: true })
})
for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => process.exit(1))

const contenders = []
for (const { name: medium, directory } of measured) {
  const floor = floorOn(executable, join(directory, 'floor.lock'))
  contenders.push({ medium, operation: '', name: 'floor', sample: async () => floor() })
  const refused = await refusals(directory)
  holders.push(...refused.holders)
  for (const contender of [...pairs(directory), ...refused.contenders]) {
    contenders.push({ medium, ...contender, sample: () => measure(contender) })
  }
}

const samples = contenders.map(() => [])
// The first round is for the compilers, the caches and the thread pool.
for (let round = -1; round < rounds; round += 1) {
  if (process.stderr.isTTY) process.stderr.write(`\rround ${round + 1} of ${rounds}`)
  for (let turn = 0; turn < contenders.length; turn += 1) {
    // Each round starts elsewhere and every other one runs backwards: nobody always follows the same neighbour.
    const step = round % 2 ? contenders.length - 1 - turn : turn
    const index = (step + Math.max(round, 0)) % contenders.length
    const ns = await contenders[index].sample()
    if (round >= 0) samples[index].push(ns)
    // What a contender leaves to the event loop is not charged to the next one.
    await setImmediate()
  }
}
if (process.stderr.isTTY) process.stderr.write('\r\x1b[K')

const floors = new Map(
  contenders.flatMap(({ name, medium }, index) =>
    name === 'floor' ? [[medium, median(samples[index])]] : [],
  ),
)
const results = contenders.map(({ medium, operation, name }, index) => {
  const medianNs = median(samples[index])
  const ratio = medianNs / floors.get(medium)
  return {
    medium,
    operation,
    name,
    medianNs,
    minNs: Math.min(...samples[index]),
    ratio,
    rounds: samples[index],
  }
})
const judged = judge(results)

const machine = `Node ${process.versions.node}, ${process.platform} ${process.arch}, ${cpus().length} x ${cpus()[0]?.model}`
console.log(`\n${machine}\n${rounds} interleaved rounds, ${batch} ms each; nanoseconds per operation`)
if (rounds < 15) console.log('Fewer than 15 rounds: only good for a quick look.')
for (const medium of media) {
  if (medium.skipped) {
    console.log(`\n${medium.name}: skipped, ${medium.skipped}`)
  } else {
    console.log(`\n${medium.name} (${medium.filesystem}, ${medium.parent})\n${table(results, medium.name)}`)
  }
}
console.log(`\n${verdicts(judged)}`)

if (json) {
  const where = media.map(({ name, filesystem, skipped }) => ({ name, filesystem, skipped }))
  const report = { date: new Date().toISOString(), machine, rounds, media: where, results, targets: judged }
  writeFileSync(json, `${JSON.stringify(report, null, 2)}\n`)
}
process.exit(check && judged.some(({ verdict }) => verdict === 'missed') ? 1 : 0)
