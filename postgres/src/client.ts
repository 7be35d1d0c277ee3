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
export async function newClient({ connect, connectionString }: Settings): Promise<Client> {
  return connect ? connect() : fromUrl(connectionString)
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
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(
      () => reject(timedOut('The database could not be reached', connectTimeout)),
      connectTimeout,
    )
  })
  try {
    await Promise.race([client.connect(), late])
    client.connection?.stream?.setKeepAlive?.(true, sessionTimeout / 2)
  } catch (error) {
    destroy(client)
    throw named(error)
  } finally {
    clearTimeout(timer)
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
