// `npm test`, the gate before each commit, and `npm run test:all`, which adds the long stages.
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { readOptions } from './cli.mjs'
import { hasFailed, runStages, table } from './gate.mjs'
import { stages } from './stages.mjs'
import { install, root } from './steps.mjs'

const help = `npm test                  the checks that are run before each commit
npm run test:all          these, and the checks that take longer
npm run test:all -- --rest
                          only the latter, after npm test; the table at the end shows both
npm run test:all -- --only STAGE,STAGE

Stages: ${stages.map(({ name, long }) => (long ? `${name} (test:all)` : name)).join(', ')}`

/** The results and the seconds of the last `npm test`, so that `--rest` can show the complete table. */
const record = join(root, 'target/test/stages.json')
const { all, rest, only } = readOptions(help, {
  all: { type: 'boolean' },
  rest: { type: 'boolean' },
  only: { list: stages.map(({ name }) => name) },
})
if (rest && !existsSync(record)) {
  console.error('npm test has not passed in this checkout: run it before --rest')
  process.exit(1)
}
const isChosen = ({ name, long = false }) => only?.includes(name) ?? (long ? all : !rest)
const earlier = rest ? JSON.parse(readFileSync(record, 'utf8')) : { results: [], seconds: 0 }
if (!rest && !only) rmSync(record, { force: true })
install()
const results = [...earlier.results, ...(await runStages(stages.filter(isChosen)))]
const seconds = earlier.seconds + performance.now() / 1000
if (!only && !rest && !hasFailed(results)) {
  mkdirSync(dirname(record), { recursive: true })
  writeFileSync(record, JSON.stringify({ results, seconds }))
}
console.log(`\n${table(results, seconds)}`)
process.exit(hasFailed(results) ? 1 : 0)
