import { randomBytes } from 'node:crypto'
import type { PostgresStatement } from '../../postgres.js'
import { clearTimeout, setTimeout } from '../shared/clock.js'
import { lockError } from '../shared/errors.js'
import { type Client, type Connection, connect, isInClear, keepAlive, serverUrlOf } from './client.js'
import { coded, endsSession, SQLSTATE, timedOut } from './errors.js'
import { halves } from './key.js'
import { orSilence } from './response-timer.js'
import type { Settings } from './settings.js'
import { applySettings, restoreSettings, sessionIdentity, sessionSettings, tryLock, unlock } from './sql.js'

/** The longest silence on a connection, in milliseconds: NAT and load balancers drop those that are silent for minutes. */
const MAX_SILENCE_MS = 60_000

/** The server does not wait for the end of a session: how often and how long to check for it, in milliseconds. */
export const END_CHECK_MS = 5
export const END_TIMEOUT_MS = 5000

interface Identity {
  backend: number
  schema: string | null
  path: string
  isStandby: boolean
}

interface Applied {
  started: string | null
  before: Record<string, string>
}

/** One connection and its session, which runs one query after the other. */
export class Session {
  /** The server process of the session, and its start. */
  backend = 0
  started: string | null = null
  /** The schema in which the session would create a table, if there is one. */
  schema: string | null = null
  /** The schema whose table was found to be trusted. */
  trusted: string | undefined
  readonly #connection: Connection
  readonly #settings: Settings
  readonly #names = new Map<string, string>()
  /** Unique, because an earlier client of this session may have prepared statements. */
  readonly #prefix = `reconcile_lock_${randomBytes(6).toString('hex')}`
  #before: Record<string, string> | undefined
  /** A random key that the session locks behind a pooler, which may lend the server process to another client. */
  #mark: bigint | undefined
  #lastQuery: Promise<unknown> = Promise.resolve()
  #end: Error | undefined
  #onEnd: ((error: Error) => void) | undefined
  #heartbeat: NodeJS.Timeout | undefined

  private constructor(connection: Connection, settings: Settings) {
    this.#connection = connection
    this.#settings = settings
    this.#client.on('error', this.#onError)
    this.#client.on('end', this.#onClosed)
  }

  static async open(settings: Settings): Promise<Session> {
    const session = new Session(await connect(settings), settings)
    try {
      const { backend, schema, path, isStandby } = await session.query<Identity>(sessionIdentity)
      Object.assign(session, { backend, schema })
      session.#before = { search_path: path }
      if (isStandby) throw standby(session.serverUrl)
      return session
    } catch (error) {
      session.destroy()
      throw error
    }
  }

  get #client(): Client {
    return this.#connection.client
  }

  get serverUrl(): string {
    return serverUrlOf(this.#client)
  }

  get isEnded(): boolean {
    return this.#end !== undefined
  }

  /** Whether a pooler is in between: another session may run the next statement. */
  get hasPooler(): boolean {
    return this.#client.processID !== this.backend
  }

  /** The values by which another session identifies this one. */
  get marks(): unknown[] {
    return [this.backend, this.started, ...(this.#mark === undefined ? [] : halves(this.#mark))]
  }

  get isInClear(): boolean {
    return isInClear(this.#client)
  }

  /** Applies the settings that a lock needs to the session. */
  async prepare(): Promise<void> {
    const { sessionTimeout } = this.#settings
    const { started, before } = await this.query<Applied>(applySettings(sessionSettings(sessionTimeout)))
    this.started = started
    this.#before = { ...before, ...this.#before }
    if (!this.hasPooler) return
    const mark = randomBytes(8).readBigInt64BE()
    await this.query(tryLock, [mark])
    this.#mark = mark
  }

  /**
   * Returns the result of one statement, or `undefined` if it has no row. If the server does not answer in time, the
   * session is lost.
   * @param milliseconds how long the statement itself may take, in addition
   * @param silence how long the server may not answer
   */
  query<T>(
    text: string,
    values?: unknown[],
    milliseconds = 0,
    silence = this.#settings.sessionTimeout / 4,
  ): Promise<T> {
    const answer = this.#lastQuery.then(() => this.#send<T>(text, values, milliseconds + silence))
    this.#lastQuery = answer.catch(() => {})
    return answer
  }

  async #send<T>(text: string, values: unknown[] | undefined, milliseconds: number): Promise<T> {
    if (this.#end) throw this.#end
    try {
      const asked = this.#client.query(values ? this.#statement(text, values) : text)
      // A driver may leave a query unsettled.
      const result = await orSilence(asked, milliseconds, () => {
        this.#ended(timedOut(`The server ${this.serverUrl} did not answer`, milliseconds))
        this.#connection.destroy()
        throw this.#end
      })
      // Several statements return several results; the last one counts.
      const { rows } = Array.isArray(result) ? result.at(-1) : result
      const [row] = rows as { answer: string }[]
      return row === undefined ? (undefined as T) : JSON.parse(row.answer)
    } catch (error) {
      coded(error, SQLSTATE.connectionFailure)
      if (endsSession(error)) this.#ended(error as Error)
      throw this.#end ?? error
    }
  }

  /** Prepares a statement, because planning costs as much as running; not in a session that others may use. */
  #statement(text: string, values: unknown[]): PostgresStatement {
    if (this.#connection.isBorrowed || this.hasPooler) return { text, values }
    const name = this.#names.get(text) ?? `${this.#prefix}_${this.#names.size}`
    this.#names.set(text, name)
    return { name, text, values }
  }

  /**
   * Sends only a query now and then, to detect the end of the session. The session does not keep the process
   * running. Throws if the session has ended.
   */
  monitor(onEnd: (error: Error) => void): void {
    // The server can end the session along with its last answer.
    if (this.#end) throw this.#end
    this.#onEnd = onEnd
    keepAlive(this.#client, false)
    this.#listen()
  }

  #listen(): void {
    const period = Math.min(this.#settings.sessionTimeout / 4, MAX_SILENCE_MS)
    this.#heartbeat = setTimeout(async () => {
      try {
        const { backend } = await this.query<Identity>(sessionIdentity)
        if (backend !== this.backend) this.#ended(changed())
      } catch {
        // A cancelled query does not end the session; `#ended` has handled an end already.
      }
      if (!this.#end && this.#onEnd) this.#listen()
    }, period)
    this.#heartbeat.unref()
  }

  /** Ends {@link monitor}. */
  markBusy(): void {
    clearTimeout(this.#heartbeat)
    this.#onEnd = undefined
    keepAlive(this.#client, true)
  }

  /** Lets the process end although the session is open. */
  markIdle(): void {
    keepAlive(this.#client, false)
  }

  /** Runs once, when the session has ended for any reason. */
  onceEnded: () => void = () => {}

  /**
   * @param listener is called with the channel of each notification
   * @returns a function that removes the listener, as a pool gets its client back
   */
  onNotification(listener: (channel: string) => void): () => void {
    const onMessage = ({ channel }: { channel: string }) => listener(channel)
    this.#client.on('notification', onMessage)
    return () => this.#client.removeListener?.('notification', onMessage)
  }

  /** Closes the connection, or returns the client to its pool as it was. The session must hold no lock. */
  async close(): Promise<void> {
    await this.#leave(async () => {
      if (this.#connection.isBorrowed && this.#before) {
        if (this.#mark !== undefined) await this.query(unlock, [this.#mark])
        await this.query(restoreSettings, [JSON.stringify(this.#before)])
      }
      // The server can end the session along with that answer.
      if (this.#end) return
      this.#finish(closed())
      await this.#connection.close()
    })
  }

  /** Closes the connection, also that of a pool: the server ends the session, and the locks that it may hold. */
  async discard(): Promise<void> {
    await this.#leave(async () => {
      this.#finish(closed())
      await this.#connection.end()
    })
  }

  /** If `leave` fails, or the server does not answer, the connection ends without waiting for the server. */
  async #leave(leave: () => Promise<void>): Promise<void> {
    if (this.#end) return
    const destroy = () => this.destroy()
    await orSilence(leave(), this.#settings.sessionTimeout / 2, destroy).catch(destroy)
  }

  /** Ends the connection without waiting for the server. */
  destroy(): void {
    this.#ended(closed())
    this.#connection.destroy()
  }

  readonly #onError = (error: Error) => this.#ended(coded(error, SQLSTATE.connectionFailure) as Error)

  readonly #onClosed = () => this.#onError(new Error('Connection terminated'))

  #ended(error: Error): void {
    if (this.#end) return
    this.#finish(error)
    // A pool must not lend the client again.
    if (this.#connection.isBorrowed) this.#connection.destroy()
    this.#onEnd?.(error)
  }

  #finish(error: Error): void {
    this.#end = error
    clearTimeout(this.#heartbeat)
    if (this.#connection.isBorrowed) {
      this.#client.removeListener?.('error', this.#onError)
      this.#client.removeListener?.('end', this.#onClosed)
    }
    this.onceEnded()
  }
}

/** The error of a call on a standby. */
export function standby(serverUrl: string) {
  const message =
    'The server is a standby, which has neither locks of its own nor those of its primary: ' +
    'connect to the primary, as with target_session_attrs or the name of its service'
  return lockError('E_LOCK_STANDBY', serverUrl, message, { recoverable: true })
}

const closed = () => coded(new Error('the connection was closed'), SQLSTATE.connectionFailure) as Error

const changed = () =>
  coded(new Error('a pooler has given the connection another session'), SQLSTATE.connectionFailure) as Error

/** The path of a lock in errors and diagnostics. */
export function pathOf({ serverUrl }: Pick<Session, 'serverUrl'>, name: string): string {
  return `${serverUrl}#${encodeURIComponent(name)}`
}
