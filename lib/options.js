'use strict'

const { inspect } = require('node:util')
const { argumentError } = require('./errors.js')
const { pathOf } = require('./held.js')
const { isPlain } = require('./plain.js')

/**
 * @typedef {object} Options
 * @property {string | undefined} cwd
 * @property {string | undefined} file
 * @property {string | undefined} message
 * @property {boolean} legacy
 * @property {number} timeout in milliseconds
 * @property {AbortSignal | undefined} signal
 * @property {((status: import('../index.js').WaitStatus) => void) | undefined} onWait
 * @property {boolean} force
 * @property {string | undefined} directory what was given instead of options
 */

/** Own properties, because another module may have added to `Object.prototype`. @returns {Options} */
const defaults = () => ({
  cwd: undefined,
  file: undefined,
  message: undefined,
  legacy: true,
  timeout: 0,
  signal: undefined,
  onWait: undefined,
  force: false,
  directory: undefined,
})

/**
 * How an option is checked; what a check returns is used.
 * @type {Record<Exclude<keyof Options, 'directory'>, (name: string, value: any) => any>}
 */
const checks = {
  cwd: path,
  file: path,
  message: (name, value) => ofType('string', name, value),
  legacy: (name, value) => ofType('boolean', name, value),
  timeout: duration,
  signal: abortSignal,
  onWait: (name, value) => ofType('function', name, value),
  force: (name, value) => ofType('boolean', name, value),
}

const OF_ACQUIRE = ['cwd', 'file', 'message', 'legacy', 'timeout', 'signal', 'onWait']
const OF_BREAK = [...OF_ACQUIRE, 'force']

/**
 * Reads the argument of a call: a directory, options, or a lock. Each property is read once.
 * @param {string} call the name of the function
 * @param {unknown[]} args all that it was called with
 * @param {string[]} known names of options
 */
function read(call, args, known) {
  const [target, ...more] = args
  if (more.some((value) => value !== undefined)) {
    const message = `${call} takes one argument, a directory or options such as { cwd, file }. Received ${args.length}`
    throw argumentError(TypeError, 'ERR_INVALID_ARG_VALUE', message)
  }
  const options = defaults()
  if (target === undefined) return options
  if (typeof target === 'string' || isUrl(target)) {
    options.cwd = path('cwd', target)
    options.directory = options.cwd
    return options
  }
  const held = pathOf(target)
  if (held !== undefined) {
    options.file = held
    return options
  }
  if (!isPlain(target)) wrongType('options', 'of type string, a file: URL, a Lock or a plain object', target)
  for (const name of Object.keys(target)) {
    if (!known.includes(name)) {
      const message = `The option "${name}" is unknown. Known options: ${known.join(', ')}`
      throw argumentError(TypeError, 'ERR_INVALID_ARG_VALUE', message)
    }
    const key = /** @type {Exclude<keyof Options, 'directory'>} */ (name)
    const value = target[key]
    if (value !== undefined) options[key] = /** @type {never} */ (checks[key](`options.${name}`, value))
  }
  return options
}

/**
 * @param {string} call
 * @param {unknown[]} args
 */
const acquireOptions = (call, args) => read(call, args, OF_ACQUIRE)

/** @param {unknown[]} args */
const breakOptions = (args) => read('breakLock', args, OF_BREAK)

/**
 * @param {unknown} value
 * @returns {value is URL}
 */
function isUrl(value) {
  if (typeof value !== 'object' || value === null || isPlain(value)) return false
  const { href, protocol } = /** @type {Partial<URL>} */ (value)
  return typeof href === 'string' && typeof protocol === 'string'
}

/**
 * @param {string} name
 * @param {unknown} value
 * @returns {string}
 */
function path(name, value) {
  if (!isUrl(value))
    return typeof value === 'string' ? value : wrongType(name, 'of type string or a file: URL', value)
  if (value.protocol === 'file:') return require('node:url').fileURLToPath(value.href)
  throw argumentError(
    TypeError,
    'ERR_INVALID_URL_SCHEME',
    `The "${name}" argument must be a file: URL. Received ${value.href}`,
  )
}

/**
 * @param {string} type
 * @param {string} name
 * @param {unknown} value
 */
function ofType(type, name, value) {
  if (typeof value !== type) wrongType(name, `of type ${type}`, value)
  return value
}

/**
 * @param {string} name
 * @param {unknown} value
 */
function duration(name, value) {
  if (typeof value !== 'number') wrongType(name, 'of type number', value)
  else if (value >= 0) return value
  throw argumentError(
    RangeError,
    'ERR_OUT_OF_RANGE',
    `The value of "${name}" is out of range. It must be >= 0. Received ${value}`,
  )
}

/**
 * @param {string} name
 * @param {any} value
 */
function abortSignal(name, value) {
  const isLike =
    typeof value === 'object' && value !== null && 'aborted' in value && 'addEventListener' in value
  return isLike ? value : wrongType(name, 'an instance of AbortSignal', value)
}

/**
 * @param {string} name
 * @param {string} expected
 * @param {unknown} value
 * @returns {never}
 */
function wrongType(name, expected, value) {
  throw argumentError(
    TypeError,
    'ERR_INVALID_ARG_TYPE',
    `The "${name}" argument must be ${expected}. Received ${received(value)}`,
  )
}

/**
 * As errors of Node.js describe a value.
 * @param {unknown} value
 */
function received(value) {
  if (value == null) return String(value)
  if (typeof value === 'function') return `function ${value.name}`.trimEnd()
  if (typeof value !== 'object') return `type ${typeof value} (${inspect(value).slice(0, 28)})`
  const name = value.constructor?.name
  return typeof name === 'string' && name ? `an instance of ${name}` : inspect(value, { depth: -1 })
}

/**
 * Adds to the error of a directory that is not there how a file is named: other packages take a file here.
 * @param {Options} options
 * @param {unknown} error
 */
function explain({ directory }, error) {
  const failure = /** @type {NodeJS.ErrnoException} */ (error)
  if (directory !== undefined && (failure.code === 'ENOENT' || failure.code === 'ENOTDIR'))
    failure.message += `; '${directory}' must be a directory, and { file: '${directory}' } names a lock file`
  return error
}

module.exports = { acquireOptions, breakOptions, explain }
