import { isIP, type Socket } from 'node:net'
import type { PostgresClient } from '../../postgres.js'
import { clearTimeout, setTimeout } from '../shared/clock.js'
import { lockError, wrongValue } from '../shared/errors.js'
import { coded, codeOf, SQLSTATE, timedOut } from './errors.js'
import type { Settings } from './settings.js'

const MAX_PORT = 65_535

/** Undocumented properties of a client of `pg`; each may be missing. */
interface Insides {
  connection?: { stream?: Partial<Socket> & { encrypted?: boolean } }
  connectionParameters?: { query_timeout?: unknown }
  /** The process id from the start of the connection: a pooler reports another one than the server. */
  processID?: number | null
  removeListener?(event: string, listener: (value: never) => void): unknown
}

export type Client = Omit<PostgresClient, 'end'> & Insides
type NewClient = PostgresClient & Insides

/** A connected client, and the ways to end it. */
export interface Connection {
  readonly client: Client
  /** Whether the client belongs to a pool, and returns to it unchanged. */
  readonly isBorrowed: boolean
  /** Closes the client, or returns it to its pool. */
  close(): Promise<unknown>
  /** Closes the client; its pool does not lend it again. */
  end(): Promise<unknown>
  /** Ends the client without waiting for the server. */
  destroy(): void
}

/** Connects within `connectTimeout`, and turns on TCP keepalive. */
export async function connect(settings: Settings): Promise<Connection> {
  const { connectTimeout, sessionTimeout, pool } = settings
  const connection = pool ? await borrow(pool, connectTimeout) : await open(settings)
  // Not earlier: Node.js sends a probe each second, and ten without an answer end the connection of a blocked holder.
  connection.client.connection?.stream?.setKeepAlive?.(true, sessionTimeout / 2)
  return connection
}

async function open(settings: Settings): Promise<Connection> {
  const { connectTimeout } = settings
  const client = await newClient(settings)
  // Without a listener, an error would end the process.
  client.on('error', () => {})
  // A wait for a lock may take longer than the program allows its own statements.
  if (client.connectionParameters) client.connectionParameters.query_timeout = 0
  const connection = {
    client,
    isBorrowed: false,
    close: () => client.end(),
    end: () => client.end(),
    destroy: () => {
      client.end().catch(() => {})
      client.connection?.stream?.destroy?.()
    },
  }
  try {
    await within(client.connect(), connectTimeout, `The connection to ${serverUrlOf(client)} was not made`)
    return connection
  } catch (error) {
    connection.destroy()
    throw coded(error, SQLSTATE.cannotConnect)
  }
}

type Pool = NonNullable<Settings['pool']>

type PoolClient = Awaited<ReturnType<Pool['connect']>> & Insides

const ignore = () => {}

/**
 * Borrows a client, and gives it a listener for errors by the callback of `pg`. The session can end before code that awaits
 * a promise runs, and an error without a listener ends the process.
 */
const listened = (pool: Pool): Promise<PoolClient> =>
  new Promise((resolve, reject) => {
    const lend = (client: PoolClient) => {
      client.on('error', ignore)
      resolve(client)
    }
    const { connect }: { connect(done: (error?: Error, client?: PoolClient) => void): unknown } = pool
    const promise = connect.call(pool, (error, client) => (client ? lend(client) : reject(error)))
    // Other pools do not take a callback.
    if (promise) (promise as Promise<PoolClient>).then(lend, reject)
  })

const returnToPool = (client: PoolClient, error?: Error) => {
  client.removeListener?.('error', ignore)
  client.release(error)
}

async function borrow(pool: Pool, connectTimeout: number): Promise<Connection> {
  const connecting = listened(pool)
  try {
    const what = 'The pool did not give a client'
    const client = await within(connecting, connectTimeout, what)
    const timeout = client.connectionParameters?.query_timeout
    if (client.connectionParameters) client.connectionParameters.query_timeout = 0
    let isBack = false
    const returnClient = (error?: Error) => {
      if (isBack) return
      isBack = true
      if (client.connectionParameters) client.connectionParameters.query_timeout = timeout
      returnToPool(client, error)
    }
    let isDiscarded = false
    const discard = () => {
      isDiscarded ||= !isBack
      returnClient(new Error('the lock has ended the connection'))
    }
    const end = () =>
      new Promise<void>((resolve) => {
        client.on('end', resolve)
        discard()
      })
    const destroy = () => {
      discard()
      if (isDiscarded) client.connection?.stream?.destroy?.()
    }
    return { client, isBorrowed: true, close: async () => returnClient(), end, destroy }
  } catch (error) {
    // A late client is returned to the pool.
    connecting.then((client) => returnToPool(client)).catch(() => {})
    throw isEnded(pool) ? ended(error) : coded(error, SQLSTATE.cannotConnect)
  }
}

/** Whether `pool.end()` was called: such a pool rejects new calls, and leaves earlier ones pending. */
const isEnded = (pool: Pool): boolean => (pool as { ending?: unknown }).ending === true

function ended(cause: unknown): Error {
  const message = 'The pool has no client for the lock, because pool.end() was called'
  return Object.assign(new Error(message, { cause }), { code: 'ERR_INVALID_STATE', recoverable: false })
}

/** Makes a client that is not connected yet. */
async function newClient({ connect, connectionString, connectTimeout }: Settings): Promise<NewClient> {
  if (!connect) return fromUrl(connectionString)
  const returned = await within(
    Promise.resolve(connect()),
    connectTimeout,
    '"connect" has not returned a client',
  )
  const found = unusable(returned)
  if (found === undefined) return returned
  const message = `"connect" has to return a new client of pg that is not connected, such as new Client(), and returned ${found}`
  throw Object.assign(new TypeError(message), { code: 'ERR_INVALID_RETURN_VALUE' })
}

/** Describes a returned value that is not a new client; such a value is neither used nor ended. */
function unusable(returned: unknown): string | undefined {
  if (typeof returned !== 'object' || returned === null) return String(returned)
  const is = returned as Record<string, unknown>
  if (typeof is.totalCount === 'number' && typeof is.waitingCount === 'number') return 'a pool'
  if (typeof is.release === 'function') {
    // No other code would return it to its pool.
    is.release()
    return 'a client of a pool'
  }
  if (is._connected === true || is._connecting === true) return 'a client that is connected'
  const methods = ['connect', 'query', 'end', 'on'] as const
  const missing = methods.find((name) => typeof is[name] !== 'function')
  return missing && `an object without the method ${missing}`
}

/** Adds a timeout to a promise. */
async function within<T>(promise: Promise<T>, milliseconds: number, what: string): Promise<T> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(timedOut(what, milliseconds)), milliseconds)
  })
  try {
    return await Promise.race([promise, late])
  } finally {
    clearTimeout(timer)
  }
}

function fromUrl(connectionString: string | undefined): NewClient {
  const { Client } = driver()
  const client = parsed(() => new Client({ connectionString, fallback_application_name: 'reconcile-lock' }))
  const { port = 0 } = client
  if (!(port >= 0 && port <= MAX_PORT))
    wrongValue(`The port of "options.connectionString" or PGPORT is not between 0 and ${MAX_PORT}`)
  return client
}

/** Gives a code to the errors of a URL; those of its files have one. */
function parsed(parse: () => NewClient): NewClient {
  try {
    return parse()
  } catch (error) {
    // By name, because they may be of another realm. Their messages may contain the password.
    if (/^(Type|URI)Error$/.test((error as Error).name))
      return wrongValue('The "options.connectionString" argument is not a URL that pg can read')
    throw codeOf(error) ? error : Object.assign(error as Error, { code: 'ERR_INVALID_ARG_VALUE' })
  }
}

function driver(): { Client: new (config: object) => NewClient } {
  try {
    return require('pg')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'MODULE_NOT_FOUND') throw error
    const message = 'Locks on PostgreSQL need the package pg, which is not installed: npm install pg'
    throw lockError('E_LOCK_DRIVER', 'postgresql:', message, { cause: error })
  }
}

/** The URL of the server, without user and password. */
export function serverUrlOf({ host = '', port, database = '' }: Client): string {
  return `postgresql://${encodeURIComponent(host)}:${port ?? ''}/${encodeURIComponent(database)}`
}

/** Whether the connection crosses a network without encryption. */
export function isInClear({ connection }: Client): boolean {
  const { encrypted, remoteAddress = '' } = connection?.stream ?? {}
  const isLoopback = /^(127\.|::1$|::ffff:127\.)/.test(remoteAddress)
  return !encrypted && isIP(remoteAddress) !== 0 && !isLoopback
}

/** Sets whether the connection keeps the process running. */
export function keepAlive(client: Client, isAlive: boolean): void {
  const { stream } = client.connection ?? {}
  if (isAlive) stream?.ref?.()
  else stream?.unref?.()
}
