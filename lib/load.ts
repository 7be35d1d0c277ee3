import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { name as packageName, repository, version } from '../package.json'
import { type LockError, lockError } from './shared/errors.js'
import { currentTarget, glibcVersion } from './target.js'

type Native = typeof import('../binding.js')

const root = join(__dirname, '..')

/** Loads the addon: the file that the environment names, one beside the package, or the package of this platform. */
export function load(): Native {
  const target = currentTarget()
  const override = process.env.NAPI_RS_NATIVE_LIBRARY_PATH
  const local = join(root, `reconcile-lock.${target}.node`)
  const chosen = override || (existsSync(local) ? local : undefined)
  const { native, error } = tryRequire(target, chosen)
  if (native?.VERSION === version) return native
  const path = chosen ?? installedPath(target)
  const finding = native
    ? {
        why: `${path} is of version ${native.VERSION ?? 'unknown'}, and ${packageName} of ${version}`,
        fix: reinstall(),
      }
    : diagnose(target, path, error)
  if (override) {
    finding.why = `NAPI_RS_NATIVE_LIBRARY_PATH is set; ${finding.why}`
    finding.fix = 'unset NAPI_RS_NATIVE_LIBRARY_PATH'
  }
  throw nativeError(target, path ?? local, finding, error)
}

/** Names each package for bundlers and tools that trace files; a `try` around them lets a package be missing. */
function tryRequire(target: string, path: string | undefined): { native?: Native; error?: unknown } {
  try {
    if (path !== undefined) return { native: require(path) }
    switch (target) {
      case 'linux-x64-gnu':
        return { native: require('reconcile-lock-linux-x64-gnu') }
      case 'linux-arm64-gnu':
        return { native: require('reconcile-lock-linux-arm64-gnu') }
      case 'linux-x64-musl':
        return { native: require('reconcile-lock-linux-x64-musl') }
      case 'linux-arm64-musl':
        return { native: require('reconcile-lock-linux-arm64-musl') }
      case 'darwin-arm64':
        return { native: require('reconcile-lock-darwin-arm64') }
      case 'darwin-x64':
        return { native: require('reconcile-lock-darwin-x64') }
      case 'win32-x64-msvc':
        return { native: require('reconcile-lock-win32-x64-msvc') }
      case 'win32-arm64-msvc':
        return { native: require('reconcile-lock-win32-arm64-msvc') }
    }
    return {}
  } catch (error) {
    return { error }
  }
}

function installedPath(target: string): string | undefined {
  try {
    return require.resolve(`${packageName}-${target}`)
  } catch {
    return undefined
  }
}

interface Finding {
  why: string
  fix: string
}

/** @param error what `require` threw; `undefined`: no package is published for this platform */
function diagnose(target: string, path: string | undefined, error: unknown): Finding {
  if (path !== undefined) {
    const [said = ''] = String((error as Error).message).split('\n')
    return { why: said, fix: allowAddons(error) ?? reinstall() }
  }
  if (existsSync(join(root, 'Cargo.toml')))
    return { why: `reconcile-lock.${target}.node was not built`, fix: reinstall() }
  if (error !== undefined) {
    const why = `${packageName}-${target} is not installed: optional dependencies were omitted, or node_modules was installed for another platform`
    return { why, fix: reinstall() }
  }
  const source = repository.url.replace(/^git\+|\.git$/g, '')
  return {
    why: `no binary is published for ${target}`,
    fix: `build it with npm run build in a clone of ${source}`,
  }
}

/** Options of Node.js that keep it from loading any addon. */
function allowAddons(error: unknown): string | undefined {
  if ((error as NodeJS.ErrnoException).code !== 'ERR_DLOPEN_DISABLED') return undefined
  return 'permission' in process
    ? 'start Node.js with --allow-addons beside --permission'
    : 'start Node.js without --no-addons'
}

function reinstall(): string {
  if (existsSync(join(root, 'Cargo.toml'))) return 'npm run build, in this clone'
  return root.includes('node_modules')
    ? 'npm install --include=optional, or what your package manager calls that, on this machine'
    : `keep ${packageName} out of the bundle (external), and install it beside the bundle`
}

function nativeError(target: string, path: string, { why, fix }: Finding, cause: unknown): LockError {
  const { bun, deno, node } = process.versions
  const runtime = bun ? `Bun ${bun}` : deno ? `Deno ${deno}` : `Node.js ${node}`
  const libc = target.endsWith('musl') ? ' musl' : target.includes('-gnu') ? ' glibc' : ''
  const machine = `${process.platform} ${process.arch}${libc}${libc === ' glibc' ? glibcVersion() : ''}`
  const message = [
    `${packageName} has no native binary that works here: ${machine}, ${runtime}`,
    `  package: ${packageName}-${target}`,
    `  cause: ${why}`,
    `  fix: ${fix}`,
  ].join('\n')
  const error = lockError('E_LOCK_NATIVE', path, message)
  if (cause !== undefined) Object.defineProperty(error, 'cause', { value: cause, configurable: true })
  return error
}
