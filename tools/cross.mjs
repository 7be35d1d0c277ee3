// `npm run cross`: checks every platform with a published binary, as far as a Linux machine can.
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { readOptions } from './cli.mjs'
import { build, installTools, lint, testCore } from './cross/build.mjs'
import { installSystem } from './cross/debian.mjs'
import { describeElf } from './cross/elf.mjs'
import { describeMachO } from './cross/mach-o.mjs'
import { testNode } from './cross/node.mjs'
import { assertSize, targets, withTable } from './cross/targets.mjs'
import { root } from './steps.mjs'

const names = targets.map(({ name }) => name)

const help = `npm run cross -- [--only TARGET,TARGET] [--sizes | --core]

Lints every target, links those that can be linked here, and runs the core's own tests if this machine can run them:
natively, under qemu, or under wine. If it can run a Node.js of the target, it also runs the Node.js tests. Needs Debian
packages, which it installs as root. With --sizes it only links those that can be linked, and prints how large they are.
With --core it does not run the Node.js tests, which take hours under qemu. Without --sizes it writes the states of the
targets into docs/platforms.md.

Targets: ${names.join(', ')}`

const { only, sizes, core } = readOptions(help, {
  only: { default: names.join(), list: names },
  sizes: { type: 'boolean' },
  core: { type: 'boolean' },
})

/** Checks a target; returns the results in the words of the support table. */
async function check(target) {
  if (!sizes) lint(target)
  if (!target.link) return [sizes ? 'no size' : 'linted', target.why]
  const addon = build(target)
  const size = assertSize(addon, target)
  const about = [`${(size / 1000).toFixed(0)} kB`]
  if (target.name.includes('-linux-')) about.push(describeElf(addon, target))
  if (target.macos) about.push(describeMachO(addon, target))
  if (sizes || !target.run) return ['built', about.join(', ')]
  const passed = testCore(target)
  about.push(`the core's ${passed} tests pass ${target.run.length > 0 ? `under ${target.run[0]}` : 'here'}`)
  if (target.standsFor) about.push(`stands for ${target.standsFor}`)
  if (core) return ['built', about.join(', ')]
  const counts = await testNode(target, addon)
  if (counts.missing) return ['built', [...about, counts.missing].join(', ')]
  const under = `the suite under ${target.under}`
  about.push(`${under}: ${counts.passed} passed, ${counts.failed} failed, ${counts.skipped} skipped`)
  if (counts.failed > 0) throw new Error(about.join(', '))
  return ['tested', about.join(', ')]
}

const wanted = targets.filter(({ name }) => only.includes(name))
installTools(wanted)
for (const { debian } of wanted) if (debian && !sizes) installSystem(debian)
const lines = []
const states = {}
let failed = 0
for (const target of wanted) {
  console.log(`\n# ${target.name}`)
  const [state, about] = await check(target).catch((error) => {
    failed += 1
    console.error(error.message)
    return ['FAILED', error.message.split('\n')[0]]
  })
  if (state !== 'FAILED') states[target.name] = state
  lines.push(`${target.name.padEnd(28)} ${state.padEnd(9)} ${about}`)
}
const page = join(root, 'docs/platforms.md')
if (!sizes) writeFileSync(page, withTable(readFileSync(page, 'utf8'), states))
console.log(`\n${lines.join('\n')}\n${wanted.length - failed} passed, ${failed} failed`)
process.exit(failed === 0 ? 0 : 1)
