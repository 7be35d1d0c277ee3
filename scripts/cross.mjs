// `npm run cross`: every platform that a binary is published for, as far as a Linux machine can check it.
import { parseArgs } from 'node:util'
import { readBinary } from './binaries.mjs'
import { build, lint, testCore } from './cross/check.mjs'
import { testNode } from './cross/node.mjs'
import { targets } from './cross/targets.mjs'
import { installTools } from './cross/tools.mjs'

const help = `npm run cross -- [--only TARGET,TARGET] [--sizes]

Lints every target, links those that can be linked here, and runs the core's own tests where something can run them:
natively, under qemu, or under wine; where a Node.js can be run too, the Node tests. Needs Debian packages, which it
installs as root. With --sizes it does no more than link those that can be linked, and tell how large they are.

Targets: ${targets.map(({ name }) => name).join(', ')}`

function chosen() {
  const options = { only: { type: 'string' }, sizes: { type: 'boolean' }, help: { type: 'boolean' } }
  try {
    const { values } = parseArgs({ options })
    if (values.help) {
      console.log(help)
      process.exit(0)
    }
    return { wanted: named(values.only), sizes: values.sizes ?? false }
  } catch (error) {
    console.error(`${error.message}\n\n${help}`)
    process.exit(2)
  }
}

function named(only) {
  if (only === undefined) return targets
  return only.split(',').map((wanted) => {
    const target = targets.find(({ name }) => name === wanted)
    if (target === undefined) throw new Error(`There is no target ${wanted}`)
    return target
  })
}

const kilobytes = (bytes) => `${(bytes / 1000).toFixed(0)} kB`

/** What was done for a target, in the words of the support table. */
async function check(target) {
  if (!sizes) lint(target)
  if (!target.link) return { state: sizes ? 'no size' : 'compiles', about: target.why }
  const addon = build(target)
  const { size, glibc } = readBinary(addon)
  if (size > target.most) throw new Error(`${addon}: ${size} bytes, and ${target.most} are the most`)
  const about = [kilobytes(size), ...(glibc ? [`needs glibc ${glibc}`] : [])]
  if (sizes) return { state: 'built', about: about.join(', ') }
  const passed = testCore(target)
  const where = target.run.length > 0 ? `under ${target.run[0]}` : 'here'
  about.push(`the core's ${passed} tests pass ${where}`)
  if (target.standsFor) about.push(`stands for ${target.standsFor}`)
  const counts = await testNode(target, addon)
  if (counts.missing) return { state: 'built', about: `${about.join(', ')}; ${counts.missing}` }
  const text = `the suite under ${target.node.under}: ${counts.passed} passed, ${counts.failed} failed, ${counts.skipped} skipped`
  about.push(text)
  if (counts.failed > 0) throw new Error(about.join(', '))
  return { state: 'tested', about: about.join(', ') }
}

const { wanted, sizes } = chosen()
installTools(wanted)
const results = []
for (const target of wanted) {
  console.log(`\n# ${target.name}`)
  try {
    results.push({ name: target.name, ...(await check(target)) })
  } catch (error) {
    console.error(error.message)
    results.push({ name: target.name, state: 'FAILED', about: error.message.split('\n')[0] })
  }
}
console.log()
for (const { name, state, about } of results) console.log(`${name.padEnd(28)} ${state.padEnd(9)} ${about}`)
const failed = results.filter(({ state }) => state === 'FAILED').length
console.log(`${results.length - failed} passed, ${failed} failed`)
process.exit(failed === 0 ? 0 : 1)
