import { type Client, connectClient, destroy, keepAlive, newClient, placeOf } from './client.js'
import { clearTimeout, setTimeout } from './clock.js'
import type { Settings } from './options.js'
import { patience, timedOut } from './patience.js'
import { applySettings, sessionSettings, watchClient, whoami } from './sql.js'
import type { PostgresStatement } from './types.js'

/** The names of prepared statements. */
const names = new Map<string, string>()

/** A statement that the server plans once in a session: planning costs as much as running it. */
function prepared(text: string, values: unknown[]): PostgresStatement {
  const name = names.get(text) ?? `reconcile_lock_${names.size}`
  names.set(text, name)
  return { name, text, values }
}

/** One connection and the session behind it, asked one question after the other. */
export class Session {
  /** The process of the server that serves it. */
  backend = 0
  readonly #client: Client
  readonly #settings: Settings
  #turn: Promise<unknown> = Promise.resolve()
  #end: Error | undefined
  #onEnd: ((error: Error) => void) | undefined
  #beat: NodeJS.Timeout | undefined

  private constructor(client: Client, settings: Settings) {
    this.#client = client
    this.#settings = settings
    // Without a listener an error would be the end of the process.
    client.on('error', (error) => this.#ended(error))
    client.on('end', () => this.#ended(new Error('Connection terminated')))
  }

  static async open(settings: Settings): Promise<Session> {
    const client = await newClient(settings)
    const session = new Session(client, settings)
    await connectClient(client, settings)
    try {
      session.backend = await session.ask<number>(whoami)
      return session
    } catch (error) {
      session.destroy()
      throw error
    }
  }

  get place(): string {
    return placeOf(this.#client)
  }

  get isEnded(): boolean {
    return this.#end !== undefined
  }

  /** Whether a pooler is in between, so that the next statement may be another session's. */
  get hasPooler(): boolean {
    return this.#client.processID !== this.backend
  }

  /** Sets what the lock needs of a session that is this connection's own. */
  async prepare(): Promise<void> {
    const { sessionTimeout } = this.#settings
    await this.ask(applySettings, [JSON.stringify(sessionSettings(sessionTimeout))])
    try {
      await this.ask(watchClient, [String(Math.round(sessionTimeout / 4))])
    } catch (error) {
      // The server's system cannot do that: such a wait ends when its lock is free.
      if ((error as { code?: unknown }).code !== '22023') throw error
    }
  }

  /**
   * What one statement answers; `undefined` if it has no row. A server that is silent for too long has lost the
   * session.
   * @param milliseconds how long the statement itself may take beyond that
   */
  ask<T>(text: string, values?: unknown[], milliseconds = 0): Promise<T> {
    const limit = milliseconds + this.#settings.sessionTimeout / 4
    const answer = this.#turn.then(() => this.#send<T>(text, values, limit))
    this.#turn = answer.catch(() => {})
    return answer
  }

  async #send<T>(text: string, values: unknown[] | undefined, milliseconds: number): Promise<T> {
    if (this.#end) throw this.#end
    const stop = patience(milliseconds, () => {
      this.#ended(timedOut('The database did not answer', milliseconds))
      destroy(this.#client)
    })
    try {
      const result = await this.#client.query(values ? prepared(text, values) : text)
      // Several statements have several results, of which the last one answers.
      const { rows } = Array.isArray(result) ? result.at(-1) : result
      const [row] = rows as { answer: string }[]
      return row === undefined ? (undefined as T) : JSON.parse(row.answer)
    } catch (error) {
      if ((error as { severity?: unknown }).severity === 'FATAL') this.#ended(error as Error)
      throw this.#end ?? error
    } finally {
      stop()
    }
  }

  /**
   * Leaves the session alone but for a question now and then, so that its end is noticed. The process may end
   * meanwhile.
   */
  watch(onEnd: (error: Error) => void): void {
    this.#onEnd = onEnd
    keepAlive(this.#client, false)
    this.#listen()
  }

  #listen(): void {
    const period = this.#settings.sessionTimeout / 4
    this.#beat = setTimeout(async () => {
      try {
        const backend = await this.ask<number>(whoami)
        if (backend !== this.backend)
          this.#ended(new Error('a pooler has given the connection another session'))
      } catch {
        // Whoever cancels a question ends no session; its end was noticed already.
      }
      if (!this.#end && this.#onEnd) this.#listen()
    }, period)
    this.#beat.unref()
  }

  /** Ends {@link watch}. */
  use(): void {
    clearTimeout(this.#beat)
    this.#onEnd = undefined
    keepAlive(this.#client, true)
  }

  /** Lets the process end although the session is open. */
  rest(): void {
    keepAlive(this.#client, false)
  }

  /** @param listener hears the names of what is notified */
  onNotification(listener: (channel: string) => void): void {
    this.#client.on('notification', ({ channel }) => listener(channel))
  }

  /** Says goodbye; the server ends the session, and with it its locks. */
  async close(): Promise<void> {
    clearTimeout(this.#beat)
    this.#onEnd = undefined
    if (this.#end) return
    this.#end = new Error('the connection was closed')
    const stop = patience(this.#settings.sessionTimeout / 2, () => destroy(this.#client))
    await this.#client.end().catch(() => {})
    stop()
  }

  /** Ends the connection whatever the other end does. */
  destroy(): void {
    this.#ended(new Error('the connection was closed'))
    destroy(this.#client)
  }

  #ended(error: Error): void {
    if (this.#end) return
    this.#end = error
    clearTimeout(this.#beat)
    this.#onEnd?.(error)
  }
}

/** A lock as errors and diagnostics name it. */
export function pathOf(session: Session, name: string): string {
  return `${session.place}#${encodeURIComponent(name)}`
}
