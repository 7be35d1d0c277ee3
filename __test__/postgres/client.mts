import pg from 'pg'

/**
 * A client that calls `onQuery` before and after each query.
 * @param onQuery may return a result, which replaces that of the server
 */
export function watched(
  connectionString: string,
  onQuery: (text: string, isAnswered: boolean, values: unknown[]) => { rows: unknown[] } | undefined,
): pg.Client {
  class Watched extends pg.Client {
    override query(...args: unknown[]): never {
      return this.#ask(args[0] as string | pg.QueryConfig) as never
    }

    async #ask(statement: string | pg.QueryConfig): Promise<unknown> {
      const text = typeof statement === 'string' ? statement : statement.text
      const values = typeof statement === 'string' ? [] : (statement.values ?? [])
      const replacement = onQuery(text, false, values)
      if (replacement) return replacement
      const answer = await super.query(statement)
      return onQuery(text, true, values) ?? answer
    }
  }
  return new Watched({ connectionString })
}
