// `npm test`, the gate that is run before each commit, and `npm run test:all`, which adds what takes longer.
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { install, root } from './steps.mjs'
import { runStage } from './test/run.mjs'
import { stages } from './test/stages.mjs'
import { table } from './test/table.mjs'

const help = `npm test                  the checks that are run before each commit
npm run test:all          these, and the checks that take longer
npm run test:all -- --rest
                          only the latter, after npm test; the table at the end shows both
npm run test:all -- --only STAGE,STAGE

Stages: ${stages.map(({ name, long }) => (long ? `${name} (test:all)` : name)).join(', ')}`

/** What the last `npm test` printed in its table, so that `--rest` can show the whole. */
const record = join(root, 'target/test/stages.json')

function readOptions() {
  const options = {
    all: { type: 'boolean', default: false },
    rest: { type: 'boolean', default: false },
    only: { type: 'string' },
    help: { type: 'boolean' },
  }
  try {
    const { values } = parseArgs({ options })
    const only = values.only?.split(',')
    const unknown = only?.find((wanted) => !stages.some(({ name }) => name === wanted))
    if (unknown !== undefined) throw new Error(`There is no stage ${unknown}`)
    return { ...values, only }
  } catch (error) {
    console.error(`${error.message}\n\n${help}`)
    process.exit(2)
  }
}

function chosen({ all, rest, only }) {
  if (only) return stages.filter(({ name }) => only.includes(name))
  return stages.filter(({ long = false }) => (long ? all : !rest))
}

const options = readOptions()
if (options.help) {
  console.log(help)
  process.exit(0)
}
if (options.rest && !existsSync(record)) {
  console.error('npm test has not passed in this checkout: run it before --rest')
  process.exit(1)
}
const results = options.rest ? JSON.parse(readFileSync(record, 'utf8')) : []
if (!options.rest && !options.only) rmSync(record, { force: true })
install()
for (const stage of chosen(options)) {
  const result = await runStage(stage)
  results.push(result)
  if (result.failed > 0) break
}
if (!options.only && !options.rest && results.every(({ failed }) => failed === 0)) {
  mkdirSync(join(root, 'target/test'), { recursive: true })
  writeFileSync(record, JSON.stringify(results))
}
console.log(`\n${table(results)}`)
process.exit(results.some(({ failed }) => failed > 0) ? 1 : 0)
