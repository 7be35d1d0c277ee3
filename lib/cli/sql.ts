import { loadPostgres } from './target.js'

/** Prints the SQL for a role that may create tables. Connects to no server. */
export function sql(): void {
  process.stdout.write(loadPostgres().tableSql())
}
