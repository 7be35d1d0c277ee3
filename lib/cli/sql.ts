import { loadPostgres } from './target.js'

/** Prints the SQL for a role that may create tables, without a connection. */
export function sql(): void {
  process.stdout.write(loadPostgres().tableSql())
}
