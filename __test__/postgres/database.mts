// A server with one lock, named after the test, for the command line and the library.
import type { TestContext } from 'node:test'
import { type PostgresLock, type PostgresLocks, postgresLocks } from 'reconcile-lock/postgres'
import { Postgres } from './postgres.mjs'

export class Database {
  readonly postgres: Postgres

  private constructor(postgres: Postgres) {
    this.postgres = postgres
  }

  static async start(): Promise<Database> {
    return new Database(await Postgres.start())
  }

  /** The arguments of a command on the lock. */
  words(t: TestContext, ...args: string[]): string[] {
    return ['--postgres', this.postgres.url(), '--name', t.name, ...args]
  }

  pathOf(name: string): string {
    return `postgresql://127.0.0.1:${this.postgres.port}/ledger#${encodeURIComponent(name)}`
  }

  locks(t: TestContext): PostgresLocks {
    const locks = postgresLocks({ connectionString: this.postgres.url() })
    t.after(() => locks.close())
    return locks
  }

  acquire(t: TestContext): Promise<PostgresLock> {
    return this.locks(t).acquireLock(t.name)
  }

  async state(t: TestContext): Promise<string> {
    // Tests poll this, so each call closes its connection.
    await using locks = postgresLocks({ connectionString: this.postgres.url() })
    return (await locks.inspectLock(t.name)).state
  }
}
