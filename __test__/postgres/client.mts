import pg from 'pg'

type OnQuery = (
  text: string,
  isAnswered: boolean,
  values: unknown[],
) => Answer | undefined | Promise<Answer | undefined>
interface Answer {
  rows: unknown[]
}

/**
 * A client class whose clients call `onQuery` before and after each query.
 * @param onQuery may return a result, which replaces that of the server
 */
export function watching(onQuery: OnQuery): new (config?: pg.ClientConfig) => pg.Client {
  return class extends pg.Client {
    override query(...args: unknown[]): never {
      return this.#ask(args[0] as string | pg.QueryConfig) as never
    }

    async #ask(statement: string | pg.QueryConfig): Promise<unknown> {
      const text = typeof statement === 'string' ? statement : statement.text
      const values = typeof statement === 'string' ? [] : (statement.values ?? [])
      const replacement = await onQuery(text, false, values)
      if (replacement) return replacement
      const answer = await super.query(statement)
      return (await onQuery(text, true, values)) ?? answer
    }
  }
}

/** A client of {@link watching}. */
export const watched = (connectionString: string, onQuery: OnQuery): pg.Client =>
  new (watching(onQuery))({ connectionString })
