import { builtin } from './shared/globals.js'

const { readFileSync } = builtin('node:fs', () => require('node:fs') as typeof import('node:fs'))

/** The platform of this process in the form of package names, such as `linux-x64-gnu`. */
export function currentTarget(): string {
  const { platform, arch } = process
  if (platform === 'win32') return `win32-${arch}-msvc`
  if (platform !== 'linux') return `${platform}-${arch}`
  return `linux-${arch}-${isMusl() ? 'musl' : 'gnu'}${arch === 'arm' ? 'eabihf' : ''}`
}

function isMusl(): boolean {
  try {
    // Reading as `latin1` would take ten times as long.
    return readFileSync('/usr/bin/ldd', 'utf8').includes('musl')
  } catch {
    return readReport().sharedObjects?.some((path) => /ld-musl-|libc\.musl-/.test(path)) ?? false
  }
}

/** The version for an error, such as ` 2.36`; empty if unknown, because the report of Deno is not real. */
export function glibcVersion(): string {
  const version = process.versions.deno === undefined ? readReport().header?.glibcVersionRuntime : undefined
  return version === undefined ? '' : ` ${version}`
}

function readReport(): { header?: { glibcVersionRuntime?: string }; sharedObjects?: string[] } {
  const reporter = process.report as (NodeJS.ProcessReport & { excludeNetwork?: boolean }) | undefined
  if (typeof reporter?.getReport !== 'function') return {}
  const { excludeNetwork = false } = reporter
  // Otherwise the report resolves every address of this machine.
  reporter.excludeNetwork = true
  const report = reporter.getReport()
  reporter.excludeNetwork = excludeNetwork
  return report
}
