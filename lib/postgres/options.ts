// Checks arguments before any query. The messages are those of the addon and of Node.js.
import { inspect } from 'node:util'
import type {
  AcquireOptions,
  LockTarget,
  PostgresBreakOptions,
  PostgresOptions,
  TransactionLockOptions,
} from '../../postgres.js'
import { isSignal } from '../shared/abort.js'
import { MAX_TIMER_MS } from '../shared/clock.js'
import { argumentError, MESSAGE, outOfRange, wrongValue } from '../shared/errors.js'
import { isPlain } from '../shared/plain.js'
import { HeldLock } from './lock.js'
import type { Request, Settings } from './settings.js'

const NAME = 'reconcile'
const MAX_NAME_LENGTH = 255

type Values = Record<string, unknown>
type Check = (value: unknown, name: string) => void

function wrongType(name: string, expected: string, value: unknown): never {
  const message = `The "${name}" argument must be ${expected}. Received ${received(value)}`
  throw argumentError(TypeError, 'ERR_INVALID_ARG_TYPE', message)
}

/** Describes a value, but not its text. */
function received(value: unknown): string {
  if (value === null || value === undefined) return String(value)
  if (typeof value === 'number') return `type number (${value})`
  return Array.isArray(value) ? 'an instance of Array' : `type ${typeof value}`
}

/** Makes a check by `typeof`. */
const ofType =
  (type: string): Check =>
  (value, name) => {
    if (typeof value !== type) wrongType(name, `of type ${type}`, value)
  }

/** Checks for a string that PostgreSQL can store as text. */
const checkStorable: Check = (value, name) => {
  if (typeof value !== 'string') return wrongType(name, 'of type string', value)
  if (value === '') wrongValue(`The "${name}" argument is empty`)
  if (value.includes('\0')) wrongValue(`The "${name}" argument contains a null byte: ${inspect(value)}`)
  if (/\p{Surrogate}/u.test(value)) wrongValue(`The "${name}" argument is not well-formed Unicode`)
  if ([...value].length > MAX_NAME_LENGTH)
    wrongValue(`The "${name}" argument is longer than ${MAX_NAME_LENGTH} characters`)
}

const checkTimeout: Check = (value, name) => {
  if (typeof value !== 'number') return wrongType(name, 'of type number', value)
  if (!(value >= 0)) outOfRange(name, '>= 0', value)
}

const checkBetween =
  (least: number, most: number): Check =>
  (value, name) => {
    if (typeof value !== 'number') return wrongType(name, 'of type number', value)
    if (!(value >= least && value <= most)) outOfRange(name, `>= ${least} && <= ${most}`, value)
  }

const checkSignal: Check = (value, name) => {
  if (!isSignal(value)) wrongType(name, 'an instance of AbortSignal', value)
}

const checkFilled: Check = (value, name) => {
  if (typeof value !== 'string') wrongType(name, 'of type string', value)
  if (value === '') wrongValue(`The "${name}" argument is empty`)
}

const checkSchema: Check = (value, name) => {
  checkStorable(value, name)
  // Each session has its own pg_temp; the other schemas with this prefix belong to the system.
  if (/^pg_/.test(value as string))
    wrongValue(`The "${name}" argument is a schema of PostgreSQL itself: ${value}`)
}

const checkPool: Check = (value, name) => {
  const isLike = typeof value === 'object' && value !== null && 'connect' in value && 'totalCount' in value
  if (!isLike) wrongType(name, 'a Pool of pg', value)
}

const checkCount: Check = (value, name) => {
  if (typeof value !== 'number') return wrongType(name, 'of type number', value)
  if (!(Number.isInteger(value) && value >= 1)) outOfRange(name, 'an integer >= 1', value)
}

const ofLock: Record<string, Check> = { name: checkStorable, message: ofType('string') }
const ofAcquire = {
  ...ofLock,
  shared: ofType('boolean'),
  timeout: checkTimeout,
  signal: checkSignal,
  onWait: ofType('function'),
}
const ofTransaction = { ...ofLock, timeout: checkTimeout, signal: checkSignal }
const ofBreak = { ...ofAcquire, force: ofType('boolean') }
const ofLocks: Record<string, Check> = {
  connectionString: checkFilled,
  connect: ofType('function'),
  pool: checkPool,
  maxConnections: checkCount,
  schema: checkSchema,
  sessionTimeout: checkBetween(4000, 3_600_000),
  connectTimeout: checkBetween(1, MAX_TIMER_MS),
}

function checkAll(options: unknown, known: Record<string, Check>, expected: string): Values {
  if (!isPlain(options)) return wrongType('options', expected, options)
  // Without a prototype, which another module may have extended.
  const values: Values = Object.create(null)
  for (const [name, value] of Object.entries(options)) {
    const checkOption = Object.hasOwn(known, name) ? known[name] : undefined
    if (!checkOption)
      return wrongValue(`The option "${name}" is unknown. Known options: ${Object.keys(known).join(', ')}`)
    if (value === undefined) continue
    checkOption(value, `options.${name}`)
    values[name] = value
  }
  return values
}

function request(target: unknown, known: Record<string, Check>): Request {
  const values = checkAll(optionsOf(target), known, 'of type string, a lock or a plain object')
  const unset = { signal: undefined, onWait: undefined }
  return { name: NAME, message: MESSAGE, shared: false, timeout: 0, force: false, ...unset, ...values }
}

/** The options that an argument stands for. */
function optionsOf(target: unknown): unknown {
  if (target === undefined) return {}
  if (typeof target === 'string') return { name: target }
  return target instanceof HeldLock ? { name: target.name } : target
}

/** The argument of a call. A second one, such as options after a name, is refused, because it would have no effect. */
export function onlyArgument<T>(call: string, args: readonly T[], before = 'one argument,'): T | undefined {
  const [asked, ...more] = args
  if (more.some((value) => value !== undefined))
    wrongValue(`${call} takes ${before} a name or options such as { name, timeout }. Received more`)
  return asked
}

export const lockRequest = (options?: LockTarget): Request => request(options, ofAcquire)
export const breakRequest = (options?: LockTarget | PostgresBreakOptions): Request =>
  request(options, ofBreak)

/** Throws the reason of an aborted signal, as the addon does. */
export function acquireRequest(options?: string | AcquireOptions): Request {
  const asked = request(options, ofAcquire)
  if (asked.signal?.aborted) throw asked.signal.reason
  return asked
}

export function transactionRequest(
  client: unknown,
  args: [options?: string | TransactionLockOptions],
): Request {
  const isLike =
    typeof client === 'object' && client !== null && 'query' in client && !('totalCount' in client)
  if (!isLike) wrongType('client', 'a Client of pg', client)
  return request(onlyArgument('lockInTransaction', args, 'a client and'), ofTransaction)
}

/** Variables from which `pg` completes a URL; any of them replaces `connectionString`. */
const VARIABLES = ['PGHOST', 'PGPORT', 'PGUSER', 'PGDATABASE']

export function settingsOf(options: PostgresOptions): Settings {
  const values = checkAll(options, ofLocks, 'an object')
  const ways = (['connectionString', 'connect', 'pool'] as const).filter((way) => values[way] !== undefined)
  if (ways.length > 1) wrongValue(`Of ${ways.map((way) => `"${way}"`).join(' and ')} only one can be given`)
  const isUnset = ways.length === 0
  if (isUnset && !VARIABLES.some((name) => process.env[name]))
    wrongValue(
      `The "connectionString" option is undefined: is its environment variable set? Give it, "connect" or "pool", or set one of ${VARIABLES.join(', ')}`,
    )
  const unset = {
    connectionString: isUnset ? 'postgres://' : undefined,
    connect: undefined,
    pool: undefined,
    schema: undefined,
  }
  return { maxConnections: 10, sessionTimeout: 20_000, connectTimeout: 10_000, ...unset, ...values }
}

export function schemaOf(schema: unknown): string | undefined {
  if (schema !== undefined) checkSchema(schema, 'schema')
  return schema as string | undefined
}
