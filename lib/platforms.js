'use strict'

const { readFileSync } = require('node:fs')

/**
 * @typedef {object} Platform
 * @property {string} name as in the name of its package, such as `linux-x64-gnu`
 * @property {string} os `process.platform`
 * @property {string} cpu `process.arch`
 * @property {'glibc' | 'musl'} [libc] on Linux
 */

/** @type {Record<string, string>} */
const CPUS = { x86_64: 'x64', aarch64: 'arm64', i686: 'ia32' }
/** @type {Record<string, string>} */
const SYSTEMS = { apple: 'darwin', pc: 'win32' }

/**
 * @param {string} triple the compiler's name for a platform, such as `aarch64-apple-darwin`
 * @returns {Platform}
 */
function platformOf(triple) {
  const [cpu = '', vendor = '', system = '', abi] = triple.split('-')
  const os = SYSTEMS[vendor] ?? system
  const name = [os, CPUS[cpu] ?? cpu, ...(abi === undefined ? [] : [abi])].join('-')
  const platform = { name, os, cpu: CPUS[cpu] ?? cpu }
  return os === 'linux' ? { ...platform, libc: abi === 'musl' ? 'musl' : 'glibc' } : platform
}

/**
 * This machine, by the names that napi's loader looks for.
 * @param {boolean} isMusl
 */
function nameHere(isMusl) {
  const { platform, arch } = process
  if (platform === 'win32') return `win32-${arch}-msvc`
  if (platform !== 'linux') return `${platform}-${arch}`
  return `linux-${arch}-${isMusl ? 'musl' : 'gnu'}${arch === 'arm' ? 'eabihf' : ''}`
}

/**
 * The C library that this Node.js runs with, on Linux.
 * @returns {{ libc: 'glibc' | 'musl', version?: string } | undefined} `undefined` where it cannot be told
 */
function libcHere() {
  if (process.platform !== 'linux') return undefined
  if (process.versions.deno !== undefined) return libcOfDeno()
  if (typeof process.report?.getReport !== 'function') return undefined
  const reporter = /** @type {NodeJS.ProcessReport & { excludeNetwork?: boolean }} */ (process.report)
  const { excludeNetwork = false } = reporter
  // Otherwise every address of this machine is resolved.
  reporter.excludeNetwork = true
  const report = /** @type {{ header?: { glibcVersionRuntime?: string }, sharedObjects?: string[] }} */ (
    reporter.getReport()
  )
  reporter.excludeNetwork = excludeNetwork
  const version = report.header?.glibcVersionRuntime
  if (version !== undefined) return { libc: 'glibc', version }
  return report.sharedObjects?.some((path) => /ld-musl-|libc\.musl-/.test(path))
    ? { libc: 'musl' }
    : undefined
}

/**
 * Deno's report is made up.
 * @returns {{ libc: 'glibc' | 'musl', version?: string } | undefined}
 */
function libcOfDeno() {
  const { Deno } = /** @type {{ Deno?: { build: { env?: string } } }} */ (globalThis)
  if (Deno?.build.env === 'musl') return { libc: 'musl' }
  const version = mappedGlibc()
  return { libc: 'glibc', ...(version === undefined ? {} : { version }) }
}

/** The version of the glibc that this process has mapped, if it may know. */
function mappedGlibc() {
  try {
    const path = /\/\S*\/libc(\.so\.6|-[\d.]+\.so)$/m.exec(readFileSync('/proc/self/maps', 'utf8'))?.[0]
    return path && /GNU C Library .* version ([\d.]+\d)/.exec(readFileSync(path, 'latin1'))?.[1]
  } catch {
    // Without --allow-all Deno reads nothing in /proc.
    return undefined
  }
}

module.exports = { platformOf, nameHere, libcHere }
