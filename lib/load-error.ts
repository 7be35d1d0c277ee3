import { join, resolve } from 'node:path'
import { homepage, name as packageName, repository, version } from '../package.json'
import { bundleDirectory, isBundled, root } from './location.js'
import { fileOf, isBinding, isPublished, type Loaded, scoped } from './published.js'
import { type LockError, lockError } from './shared/errors.js'
import { builtin } from './shared/globals.js'
import { glibcVersion } from './target.js'

const { existsSync } = builtin('node:fs', () => require('node:fs') as typeof import('node:fs'))

/**
 * `E_LOCK_NATIVE`: why there is no addon, and what helps.
 * @param override the value of NAPI_RS_NATIVE_LIBRARY_PATH
 */
export function loadError(target: string, loaded: Loaded, override: string | undefined): LockError {
  const { path = join(root, fileOf(target)), error } = loaded
  const { why, fix } = diagnose(target, loaded)
  const [cause, remedy] = override
    ? [`NAPI_RS_NATIVE_LIBRARY_PATH is set; ${why}`, `unset NAPI_RS_NATIVE_LIBRARY_PATH, or ${setTo(target)}`]
    : [why, fix ?? reinstall(target, loaded.path !== undefined)]
  return nativeError(target, resolve(path), cause, (override && fix) || remedy, error)
}

export const codeOf = (error: unknown): string | undefined =>
  (error as NodeJS.ErrnoException | undefined)?.code

/** Messages about a file that may not be read or mapped. */
const DENIED = /permission denied|not permitted|access is denied|failed to map segment(?!.*allocate memory)/i

function diagnose(target: string, { path, native, error }: Loaded): { why: string; fix?: string } {
  // In Jest, errors of the loader are of another realm.
  const message = String((error as Error | null | undefined)?.message ?? '')
  const [said = ''] = (path === undefined ? message : message.replaceAll(path, oneLine(path))).split('\n')
  const code = codeOf(error)
  if (code === 'ERR_DLOPEN_DISABLED') {
    const options =
      'permission' in process ? 'with --allow-addons beside --permission' : 'without --no-addons'
    return { why: said, fix: `start Node.js ${options}` }
  }
  if (code === 'ERR_ACCESS_DENIED') {
    const where = `the directories of ${packageName} and of its binary`
    return { why: `${path}: ${said}`, fix: `start Node.js with --allow-fs-read for ${where}` }
  }
  if (path !== undefined && DENIED.test(said)) {
    const where = 'on a filesystem that allows execution (noexec and SELinux can forbid it)'
    return { why: said, fix: `make ${path} readable for this user, ${where}` }
  }
  if (/\bGLIBC_\d/.test(said)) return { why: said, fix: build(target) }
  if (isBinding(native))
    return {
      why: `${path ?? 'the bundled binary'} is of version ${native.VERSION}, and ${packageName} of ${version}`,
    }
  if (path !== undefined) return { why: said || `${path} is not an addon of ${packageName}` }
  if (!['linux', 'darwin', 'win32'].includes(process.platform))
    return {
      why: `${packageName} does not support ${process.platform}`,
      fix: `use Linux, macOS or Windows; ${packageName}/postgres needs no binary`,
    }
  if (!isPublished(target)) return { why: `no binary is published for ${target}`, fix: build(target) }
  if (isBundled) {
    const why = `the program was bundled without ${fileOf(target)}`
    return { why: said ? `${why}: ${said}` : why }
  }
  if (isClone()) return { why: `${fileOf(target)} was not built` }
  const reason = 'optional dependencies were omitted, or node_modules was installed for another platform'
  return { why: `${scoped(target)} is not installed: ${reason}` }
}

const isClone = (): boolean => !isBundled && existsSync(join(root, 'Cargo.toml'))

const setTo = (target: string): string =>
  `set NAPI_RS_NATIVE_LIBRARY_PATH to the absolute path of ${fileOf(target)}`

function build(target: string): string {
  const source = repository.url.replace(/^git\+|\.git$/g, '')
  return `build it with npm run build in a clone of ${source}, and ${setTo(target)} there`
}

/** npm does not repair an installed package, because it reads only its `package.json`. */
function reinstall(target: string, isDamaged: boolean): string {
  if (isClone()) return 'npm run build, in this clone'
  if (!isBundled && !('pkg' in process))
    return isDamaged
      ? 'npm ci --include=optional, or remove node_modules and install again, on this machine'
      : 'npm install --include=optional, or what your package manager calls that, on this machine'
  const page = `${homepage.replace('#readme', '')}/blob/v${version}/docs/bundling.md`
  const copy =
    isBundled && bundleDirectory !== undefined ? `copy ${fileOf(target)} to ${bundleDirectory}, or ` : ''
  return `${copy}${setTo(target)}; see ${page}`
}

/** A path can contain line breaks, which separate the parts of the message. */
const oneLine = (text: string): string => text.replaceAll('\n', '\\n')

function nativeError(target: string, path: string, why: string, fix: string, cause: unknown): LockError {
  const { bun, deno, node } = process.versions
  const runtime = bun ? `Bun ${bun}` : deno ? `Deno ${deno}` : `Node.js ${node}`
  const libc = target.includes('-musl') ? ' musl' : target.includes('-gnu') ? ` glibc${glibcVersion()}` : ''
  const message = [
    `${packageName} has no native binary that works here: ${process.platform} ${process.arch}${libc}, ${runtime}`,
    `  package: ${scoped(target)}`,
    `  cause: ${oneLine(why)}`,
    `  fix: ${oneLine(fix)}`,
  ].join('\n')
  return lockError('E_LOCK_NATIVE', path, message, { cause })
}
