import pg from 'pg'

/**
 * A client that tells what it asks, before and after.
 * @param hear may answer in the server's stead
 */
export function watched(
  connectionString: string,
  hear: (text: string, isAnswered: boolean) => { rows: unknown[] } | undefined,
): pg.Client {
  class Watched extends pg.Client {
    override query(...args: unknown[]): never {
      const [text, values] = args as [string, unknown[]]
      return this.#ask(text, values) as never
    }

    async #ask(text: string, values: unknown[]): Promise<unknown> {
      const told = hear(text, false)
      if (told) return told
      const answer = await super.query(text, values)
      return hear(text, true) ?? answer
    }
  }
  return new Watched({ connectionString })
}
