import { readFileSync } from 'node:fs'

/** The platform that this process runs on, as in the name of its package, such as `linux-x64-gnu`. */
export function currentTarget(): string {
  const { platform, arch } = process
  if (platform === 'win32') return `win32-${arch}-msvc`
  if (platform !== 'linux') return `${platform}-${arch}`
  return `linux-${arch}-${isMusl() ? 'musl' : 'gnu'}${arch === 'arm' ? 'eabihf' : ''}`
}

function isMusl(): boolean {
  try {
    // In `latin1` this read would take ten times as long.
    return readFileSync('/usr/bin/ldd', 'utf8').includes('musl')
  } catch {
    return readReport().sharedObjects?.some((path) => /ld-musl-|libc\.musl-/.test(path)) ?? false
  }
}

/** For an error: ` 2.36`, or nothing if it is unknown; Deno makes up its report. */
export function glibcVersion(): string {
  const version = process.versions.deno === undefined ? readReport().header?.glibcVersionRuntime : undefined
  return version === undefined ? '' : ` ${version}`
}

function readReport(): { header?: { glibcVersionRuntime?: string }; sharedObjects?: string[] } {
  const reporter = process.report as (NodeJS.ProcessReport & { excludeNetwork?: boolean }) | undefined
  if (typeof reporter?.getReport !== 'function') return {}
  const { excludeNetwork = false } = reporter
  // Otherwise every address of this machine is resolved.
  reporter.excludeNetwork = true
  const report = reporter.getReport()
  reporter.excludeNetwork = excludeNetwork
  return report
}
