// The checks of one target: lints, the linked addon, and the core's own tests where something can run them.
import { spawnSync } from 'node:child_process'
import { closeSync, existsSync, openSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { root } from '../steps.mjs'
import { environment, work } from './tools.mjs'
import { prepareWine, wineEnvironment } from './wine.mjs'

const LIBRARY = ['-Zbuild-std=std,panic_unwind,test']
const SMALL = ['-Zbuild-std=std,panic_unwind', '-Zbuild-std-features=optimize_for_size,panic-unwind']

/** Runs a command and gives what it printed; its failure is an error with the end of that. */
function output(command, args, options = {}) {
  console.log(`> ${[command, ...args].join(' ')}`)
  const result = spawnSync(command, args, {
    cwd: root,
    env: environment(),
    encoding: 'utf8',
    maxBuffer: 1 << 28,
    ...options,
  })
  if (result.error) throw result.error
  if (result.status !== 0) {
    const text = `${result.stdout ?? ''}${result.stderr ?? ''}`
    throw new Error(`${command}: ${result.signal ?? `exit code ${result.status}`}\n${text.slice(-6000)}`)
  }
  return result.stdout
}

/** Clippy, as strict as on this machine, for the addon and for the crate without it. */
export function lint({ name }) {
  for (const features of [[], ['--features', 'node']]) {
    const args = ['clippy', ...LIBRARY, '--target', name, '--package', 'reconcile-lock', '--lib', ...features]
    output('/usr/bin/cargo-clippy', [...args, '--', '-D', 'warnings'])
  }
}

/** `cargo build` by the linker that the target has here. */
const cargo = ({ link }, command) =>
  link === 'zig' ? ['cargo-zigbuild', command.zig] : ['cargo', command.cargo]

/** The target's name, with the oldest C library that it is to run on. */
const versioned = ({ name, glibc, link }) => (glibc && link === 'zig' ? `${name}.${glibc}` : name)

/** musl programs are static, unless they are told that a shared library is wanted; zig brings what starts them. */
const flags = ({ name }, musl) => (name.endsWith('-musl') ? { RUSTFLAGS: musl } : {})
const SHARED = '-Ctarget-feature=-crt-static'
const STATIC = '-Clink-self-contained=no'

/** Links the addon and gives its path. */
export function build(target) {
  const [program, command] = cargo(target, { zig: 'zigbuild', cargo: 'build' })
  const args = [command, '--release', ...SMALL, '--target', versioned(target), '--package', 'reconcile-lock']
  output(program, [...args, '--lib', '--features', 'node'], {
    env: { ...environment(), ...flags(target, SHARED) },
  })
  const file = target.name.includes('windows') ? 'reconcile_lock.dll' : 'libreconcile_lock.so'
  return join(work, target.name, 'release', file)
}

/** Builds the core's tests and runs them; gives how many have passed. */
export function testCore(target) {
  const [program, command] = cargo(target, { zig: 'test', cargo: 'test' })
  const tests = ['--lib', '--test', 'protocol', '--test', 'corpus']
  const args = [command, '--no-run', ...LIBRARY, '--target', versioned(target), '--package', 'reconcile-lock']
  const options = [...tests, '--message-format=json']
  const env = { ...environment(), ...flags(target, STATIC) }
  const lines = output(program, [...args, ...options], { env }).split('\n')
  const messages = lines.filter((line) => line.startsWith('{')).map((line) => JSON.parse(line))
  const programs = messages.flatMap(({ executable, profile }) =>
    executable && profile.test ? [executable] : [],
  )
  if (programs.length !== 3) throw new Error(`there are ${programs.length} test programs, not 3`)
  return programs.map((path) => runTests(target, path)).reduce((sum, passed) => sum + passed, 0)
}

/** Wine wants files as standard streams. */
function runTests({ run, name }, path) {
  const [command, ...args] = [...run, path]
  if (command === 'wine') prepareWine()
  const log = join(work, 'tests.log')
  const empty = join(work, 'empty')
  const [stdin, stdout] = [openSync(empty, 'a+'), openSync(log, 'w')]
  console.log(`> ${[command, ...args].join(' ')}`)
  try {
    spawnSync(command, args, { stdio: [stdin, stdout, stdout], timeout: 600_000, env: wineEnvironment() })
  } finally {
    for (const file of [stdin, stdout]) closeSync(file)
  }
  const text = existsSync(log) ? readFileSync(log, 'utf8') : ''
  const [, passed] = /test result: ok\. (\d+) passed; 0 failed/.exec(text) ?? []
  if (!(Number(passed) > 0)) throw new Error(`${name}: ${path}\n${text.slice(-6000)}`)
  return Number(passed)
}
