import type { Socket } from 'node:net'
import { clearTimeout, setTimeout } from './clock.js'
import type { Settings } from './options.js'
import { timedOut } from './patience.js'
import { lockError } from './shared.js'
import type { PostgresClient } from './types.js'

/** What a client of `pg` has beside what it documents; all of it may be missing. */
interface Insides {
  connection?: { stream?: Partial<Socket> }
  /** The process id that the other end gave at the start: a pooler's is not the server's. */
  processID?: number | null
}

type Client = PostgresClient & Insides

/** Makes a client that is not connected yet. */
export async function newClient({ connect, connectionString, connectTimeout }: Settings): Promise<Client> {
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

/** What is wrong with what a program calls a new client. Nothing of it is used, or ended. */
function unusable(returned: unknown): string | undefined {
  if (typeof returned !== 'object' || returned === null) return String(returned)
  const is = returned as Record<string, unknown>
  if (typeof is.totalCount === 'number' && typeof is.waitingCount === 'number') return 'a pool'
  if (typeof is.release === 'function') {
    // Nobody else would put it back.
    is.release()
    return 'a client of a pool'
  }
  if (is._connected === true || is._connecting === true) return 'a client that is connected'
  const methods = ['connect', 'query', 'end', 'on'] as const
  const missing = methods.find((name) => typeof is[name] !== 'function')
  return missing && `an object without the method ${missing}`
}

/** The promise, or a timeout. */
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

function fromUrl(connectionString: string | undefined): Client {
  const { Client } = driver()
  try {
    return new Client({ connectionString, fallback_application_name: 'reconcile-lock' })
  } catch (error) {
    if (!(error instanceof TypeError)) throw error
    // What it says may have the password in it.
    const message = 'The "options.connectionString" argument is not a URL that pg can read'
    throw Object.assign(new TypeError(message), { code: 'ERR_INVALID_ARG_VALUE' })
  }
}

function driver(): { Client: new (config: object) => Client } {
  try {
    return require('pg')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'MODULE_NOT_FOUND') throw error
    const message = 'Locks on PostgreSQL need the package pg, which is not installed: npm install pg'
    throw lockError('E_LOCK_DRIVER', 'postgresql:', message, { cause: error })
  }
}

/** Connects in time, and has the kernel look after the connection. */
export async function connectClient(
  client: Client,
  { connectTimeout, sessionTimeout }: Settings,
): Promise<void> {
  try {
    await within(client.connect(), connectTimeout, 'The database could not be reached')
    client.connection?.stream?.setKeepAlive?.(true, sessionTimeout / 2)
  } catch (error) {
    destroy(client)
    throw named(error)
  }
}

/** Where several addresses were tried, Node.js leaves the message to the errors of each. */
function named(error: unknown): unknown {
  if (error instanceof AggregateError && error.message === '')
    error.message = error.errors.map((each: Error) => each.message).join(', ')
  return error
}

/** Ends a connection whose other end may not answer any more. */
export function destroy(client: Client): void {
  client.end().catch(() => {})
  client.connection?.stream?.destroy?.()
}

/** The server as its URL names it, without what must stay secret. */
export function placeOf({ host = '', port, database = '' }: Client): string {
  return `postgresql://${encodeURIComponent(host)}:${port ?? ''}/${encodeURIComponent(database)}`
}

/** Whether the connection alone keeps the process running. */
export function keepAlive(client: Client, isAlive: boolean): void {
  const { stream } = client.connection ?? {}
  if (isAlive) stream?.ref?.()
  else stream?.unref?.()
}

export type { Client }
