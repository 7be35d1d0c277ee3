// The example's own tests, against the addon as it is built and packed.
import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { prepareExample } from './example.mjs'
import { run } from './steps.mjs'

const example = prepareExample()
// By name: what `node --test` does with a directory differs between versions of Node.
const tests = readdirSync(join(example, 'dist/test')).filter((name) => name.endsWith('.test.js'))
if (tests.length === 0) throw new Error('the example has no tests')
const files = tests.map((name) => join('dist/test', name))
run(process.execPath, ['--test', '--test-reporter=spec', ...files], { cwd: example })
