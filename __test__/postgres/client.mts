import pg from 'pg'

/**
 * A client that tells what it asks, before and after.
 * @param hear may answer in the server's stead
 */
export function watched(
  connectionString: string,
  hear: (text: string, isAnswered: boolean, values: unknown[]) => { rows: unknown[] } | undefined,
): pg.Client {
  class Watched extends pg.Client {
    override query(...args: unknown[]): never {
      return this.#ask(args[0] as string | pg.QueryConfig) as never
    }

    async #ask(statement: string | pg.QueryConfig): Promise<unknown> {
      const text = typeof statement === 'string' ? statement : statement.text
      const values = typeof statement === 'string' ? [] : (statement.values ?? [])
      const told = hear(text, false, values)
      if (told) return told
      const answer = await super.query(statement)
      return hear(text, true, values) ?? answer
    }
  }
  return new Watched({ connectionString })
}
