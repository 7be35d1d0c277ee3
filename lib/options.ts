import { inspect } from 'node:util'
import type { AcquireOptions } from '../index.js'
import { held } from './held-locks.js'
import { isSignal } from './shared/abort.js'
import { argumentError, outOfRange, wrongValue } from './shared/errors.js'
import { isPlain } from './shared/plain.js'
import { MAX_SLOTS } from './shared/slots.js'

export interface Options {
  cwd: string | undefined
  file: string | undefined
  message: string | undefined
  legacy: boolean
  slots: number
  durable: boolean
  shared: boolean
  /** The permission bits of the file. */
  mode: number
  /** In milliseconds. */
  timeout: number
  signal: AbortSignal | undefined
  onWait: AcquireOptions['onWait']
  force: boolean
  /** The directory that was given instead of options. */
  directory: string | undefined
}

/** The mode of a lock file for one user. */
const PRIVATE = 0o600

type Name = Exclude<keyof Options, 'directory'>

/** Only own properties, because another module may have extended `Object.prototype`. */
const defaults = (): Options => ({
  cwd: undefined,
  file: undefined,
  message: undefined,
  legacy: true,
  slots: 1,
  durable: false,
  shared: false,
  mode: PRIVATE,
  timeout: 0,
  signal: undefined,
  onWait: undefined,
  force: false,
  directory: undefined,
})

/** The checks of the options; each returns the value to use. */
const checks: { [N in Name]: (name: string, value: unknown) => Options[N] } = {
  cwd: path,
  file: path,
  message: ofType('string'),
  legacy: ofType('boolean'),
  shared: ofType('boolean'),
  slots: slotCount,
  durable: ofType('boolean'),
  mode: fileMode,
  timeout: duration,
  signal: abortSignal,
  onWait: ofType('function'),
  force: ofType('boolean'),
}

const OF_BREAK = Object.keys(checks)
const OF_ACQUIRE = OF_BREAK.filter((name) => name !== 'force')

/**
 * Reads the argument of a call: a directory, options, or a lock. Each property is read once.
 * @param call the name of the function
 * @param args the arguments of the call
 * @param known names of options
 */
function read(call: string, args: unknown[], known: string[]): Options {
  const [target] = args
  if (args.length > 1 && args.slice(1).some((value) => value !== undefined)) {
    wrongValue(
      `${call} takes one argument, a directory or options such as { cwd, file }. Received ${args.length}`,
    )
  }
  const options = defaults()
  if (target === undefined) return options
  if (!isPlain(target)) {
    if (typeof target === 'string' || isUrl(target)) {
      options.cwd = path('cwd', target)
      options.directory = options.cwd
    } else if (held.isLock(target)) options.file = target.path
    else wrongType('options', 'of type string, a file: URL, a Lock or a plain object', target)
    return options
  }
  for (const name of Object.keys(target)) {
    if (!known.includes(name))
      wrongValue(`The option "${name}" is unknown. Known options: ${known.join(', ')}`)
    const value = target[name]
    if (value !== undefined) set(options, name as Name, value)
  }
  return options
}

function set<N extends Name>(options: Options, name: N, value: unknown): void {
  options[name] = checks[name](`options.${name}`, value)
}

export function acquireOptions(call: string, args: unknown[]): Options {
  const options = read(call, args, OF_ACQUIRE)
  if (options.shared && options.slots > 1) excludeEachOther('shared', 'slots')
  if (options.shared && options.durable) excludeEachOther('shared', 'durable')
  return options
}

/** The options of a call that does not acquire. It ignores the mode in which the lock would be acquired. */
export function targetOptions(call: string, args: unknown[], known = OF_ACQUIRE): Options {
  const options = read(call, args, known)
  options.shared = false
  return options
}

function excludeEachOther(one: string, other: string): never {
  wrongValue(`The options "${one}" and "${other}" exclude each other`)
}

const LEGACY = 0o1000
const DURABLE = 0o2000
const SHARED = 0o4000

type Settings = Pick<Options, 'mode' | 'legacy' | 'durable' | 'shared'>

/** The settings of a lock in one number, for the addon. */
export const settingsOf = ({ mode, legacy, durable, shared }: Settings): number =>
  mode + (legacy ? LEGACY : 0) + (durable ? DURABLE : 0) + (shared ? SHARED : 0)

export const breakOptions = (args: unknown[]): Options => targetOptions('breakLock', args, OF_BREAK)

function isUrl(value: unknown): value is URL {
  if (typeof value !== 'object' || value === null || isPlain(value)) return false
  const { href, protocol } = value as Partial<URL>
  return typeof href === 'string' && typeof protocol === 'string'
}

function path(name: string, value: unknown): string {
  if (!isUrl(value))
    return typeof value === 'string' ? value : wrongType(name, 'of type string or a file: URL', value)
  if (value.protocol === 'file:') {
    return pathOf(name, value.href)
  }
  throw argumentError(
    TypeError,
    'ERR_INVALID_URL_SCHEME',
    `The "${name}" argument must be a file: URL. Received ${value.href}`,
  )
}

/** Checks the percent escapes: Node.js gives their error no code, and Bun returns another path. */
function pathOf(name: string, href: string): string {
  // Not the global URL, which tests of programs replace.
  const { fileURLToPath, URL } = require('node:url') as typeof import('node:url')
  try {
    decodeURIComponent(new URL(href).pathname)
  } catch {
    wrongValue(`The "${name}" argument has a malformed percent escape: ${href}`)
  }
  return fileURLToPath(href)
}

/** Makes a check by `typeof`. */
function ofType<T>(type: string) {
  return (name: string, value: unknown): T =>
    typeof value === type ? (value as T) : wrongType(name, `of type ${type}`, value)
}

function duration(name: string, value: unknown): number {
  if (typeof value !== 'number') return wrongType(name, 'of type number', value)
  return value >= 0 ? value : outOfRange(name, '>= 0', value)
}

function slotCount(name: string, value: unknown): number {
  if (typeof value !== 'number') return wrongType(name, 'of type number', value)
  const isCount = Number.isInteger(value) && value >= 1 && value <= MAX_SLOTS
  return isCount ? value : outOfRange(name, `an integer from 1 to ${MAX_SLOTS}`, value)
}

function fileMode(name: string, value: unknown): number {
  if (typeof value !== 'number') return wrongType(name, 'of type number', value)
  const isMode =
    Number.isInteger(value) && value <= 0o666 && (value | 0o666) === 0o666 && (value & PRIVATE) === PRIVATE
  return isMode ? value : outOfRange(name, 'from 0o600 to 0o666 without execute bits', value)
}

function abortSignal(name: string, value: unknown): AbortSignal {
  return isSignal(value) ? value : wrongType(name, 'an instance of AbortSignal', value)
}

function wrongType(name: string, expected: string, value: unknown): never {
  throw argumentError(
    TypeError,
    'ERR_INVALID_ARG_TYPE',
    `The "${name}" argument must be ${expected}. Received ${received(value)}`,
  )
}

/** Describes a value as errors of Node.js do. */
function received(value: unknown): string {
  if (value == null) return String(value)
  if (typeof value === 'function') return `function ${value.name}`.trimEnd()
  if (typeof value !== 'object') return `type ${typeof value} (${inspect(value).slice(0, 28)})`
  const name: unknown = value.constructor?.name
  return typeof name === 'string' && name ? `an instance of ${name}` : inspect(value, { depth: -1 })
}

/**
 * Adds to the error of a missing directory how to name a lock file, because other packages take a file here.
 * @returns the error
 */
export function explain<E>({ directory }: Options, error: E): E {
  const failure = error as NodeJS.ErrnoException
  if (directory !== undefined && (failure.code === 'ENOENT' || failure.code === 'ENOTDIR'))
    failure.message += `; '${directory}' must be a directory, and { file: '${directory}' } names a lock file`
  return error
}
