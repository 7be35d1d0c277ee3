// `npm run test:runtimes`: the suite on every runtime that the package is for.
import { existsSync } from 'node:fs'
import { parseArgs } from 'node:util'
import { testArguments } from './runtimes/command.mjs'
import { installRuntime } from './runtimes/install.mjs'
import { runtimes } from './runtimes/list.mjs'
import { runSuite } from './runtimes/suite.mjs'
import { build, install, root } from './steps.mjs'
import { compile, testNames, testsForRuntimes } from './suite.mjs'

const help = `npm run test:runtimes -- [--only RUNTIME,RUNTIME] [--file TEST,TEST] [--no-build] [--others]

Installs each runtime from its npm package (Linux x64) and runs the suite in it. A test that cannot pass in one is marked
by knownFailure() with the reason; it still runs there, and a marked test that passes is a failure. The long tests run
in the Node.js of the development, in the newest one, in Bun and in Deno. Node.js 22 and 24 leave out linux, which tests
the binary that all of them load; the oldest one runs api and waiting alone.

--others leaves out the Node.js that runs this command.

Runtimes: ${runtimes.map(({ name }) => name.replace(' ', '@')).join(', ')} or node, bun, deno`

function fail(message) {
  console.error(`${message}\n\n${help}`)
  process.exit(2)
}

function readOptions() {
  const options = {
    only: { type: 'string' },
    file: { type: 'string' },
    'no-build': { type: 'boolean' },
    others: { type: 'boolean', default: false },
    help: { type: 'boolean' },
  }
  try {
    return parseArgs({ options }).values
  } catch (error) {
    return fail(error.message)
  }
}

function chosenRuntimes(only) {
  if (only === undefined) return runtimes
  return only.split(',').flatMap((wanted) => {
    const found = runtimes.filter(({ name, kind }) => wanted === kind || wanted === name.replace(' ', '@'))
    return found.length > 0 ? found : fail(`There is no runtime ${wanted}`)
  })
}

function namedFiles(file) {
  const all = testNames()
  return file?.split(',').map((name) => (all.includes(name) ? name : fail(`There is no test ${name}`)))
}

const options = readOptions()
if (options.help) {
  console.log(help)
  process.exit(0)
}
const wanted = chosenRuntimes(options.only).filter(({ name }) => {
  const isThis = options.others && name === `node ${process.versions.node}`
  if (isThis) console.log(`left out: ${name}, which runs this command`)
  return !isThis
})
if (!options['no-build']) {
  install()
  build()
}
if (!options['no-build'] || !existsSync(`${root}build/__test__`)) compile()

const named = namedFiles(options.file)
const total = { passed: 0, failed: 0, skipped: 0 }
const lines = []
const failures = []
for (const runtime of wanted) {
  const { name, kind } = runtime
  const { execPath, missing } = installRuntime(runtime)
  const command = (file, report) => [execPath, ...testArguments(kind, file, report)]
  const files = named ?? testsForRuntimes(runtime)
  const counts = missing
    ? { passed: 0, failed: 1, skipped: 0, failures: [] }
    : await runSuite({ name, command }, files)
  for (const state of Object.keys(total)) total[state] += counts[state]
  const { passed, failed, skipped } = counts
  failures.push(...counts.failures)
  lines.push(`${name.padEnd(16)} ${missing ?? `${passed} passed, ${failed} failed, ${skipped} skipped`}`)
}
// Once more, where whoever sees only the end of a long log finds them.
for (const failure of failures) console.log(`\nfailed: ${failure}`)
console.log(`\n${lines.join('\n')}`)
console.log(`${total.passed} passed, ${total.failed} failed, ${total.skipped} skipped`)
process.exit(total.failed === 0 ? 0 : 1)
