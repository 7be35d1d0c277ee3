import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { name as packageName, repository, version } from '../package.json'
import { type LockError, lockError } from './shared/errors.js'
import { currentTarget, glibcVersion } from './target.js'

type Native = typeof import('../binding.js')

const root = join(__dirname, '..')

/** Loads the addon: the file named by the environment, one beside the package, or the package of this platform. */
export function load(): Native {
  const target = currentTarget()
  const override = process.env.NAPI_RS_NATIVE_LIBRARY_PATH
  const local = join(root, `reconcile-lock.${target}.node`)
  const chosen = override || (existsSync(local) ? local : undefined)
  const { native, error } = tryRequire(target, chosen)
  if (native?.VERSION === version) return native
  const path = chosen ?? installedPath(target)
  const { why, fix = reinstall() } = native
    ? { why: `${path} is of version ${native.VERSION ?? 'unknown'}, and ${packageName} of ${version}` }
    : diagnose(target, path, error)
  const [causedBy, remedy] = override
    ? [`NAPI_RS_NATIVE_LIBRARY_PATH is set; ${why}`, 'unset NAPI_RS_NATIVE_LIBRARY_PATH']
    : [why, fix]
  throw nativeError(target, path ?? local, causedBy, remedy, error)
}

/** Names each package in full for bundlers and file tracers; inside a `try` they accept a missing package. */
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

/** @param error from `require`; `undefined` if no package is published for this platform */
function diagnose(target: string, path: string | undefined, error: unknown): { why: string; fix?: string } {
  if (path !== undefined) {
    const [why = ''] = String((error as Error).message).split('\n')
    return { why, ...allowAddons(error) }
  }
  if (isClone()) return { why: `reconcile-lock.${target}.node was not built` }
  if (error !== undefined) {
    const reason = 'optional dependencies were omitted, or node_modules was installed for another platform'
    return { why: `${packageName}-${target} is not installed: ${reason}` }
  }
  const source = repository.url.replace(/^git\+|\.git$/g, '')
  return {
    why: `no binary is published for ${target}`,
    fix: `build it with npm run build in a clone of ${source}`,
  }
}

/** Options of Node.js that disable addons. */
function allowAddons(error: unknown): { fix?: string } {
  if ((error as NodeJS.ErrnoException).code !== 'ERR_DLOPEN_DISABLED') return {}
  const options = 'permission' in process ? 'with --allow-addons beside --permission' : 'without --no-addons'
  return { fix: `start Node.js ${options}` }
}

const isClone = (): boolean => existsSync(join(root, 'Cargo.toml'))

function reinstall(): string {
  if (isClone()) return 'npm run build, in this clone'
  return root.includes('node_modules')
    ? 'npm install --include=optional, or what your package manager calls that, on this machine'
    : `keep ${packageName} out of the bundle (external), and install it beside the bundle`
}

function nativeError(target: string, path: string, why: string, fix: string, cause: unknown): LockError {
  const { bun, deno, node } = process.versions
  const runtime = bun ? `Bun ${bun}` : deno ? `Deno ${deno}` : `Node.js ${node}`
  const libc = target.includes('-musl') ? ' musl' : target.includes('-gnu') ? ` glibc${glibcVersion()}` : ''
  const message = [
    `${packageName} has no native binary that works here: ${process.platform} ${process.arch}${libc}, ${runtime}`,
    `  package: ${packageName}-${target}`,
    `  cause: ${why}`,
    `  fix: ${fix}`,
  ].join('\n')
  return lockError('E_LOCK_NATIVE', path, message, { cause })
}
