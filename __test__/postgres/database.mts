// The command line and the library about one lock on a server of their own, which is named as the test is.
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

  /** The words of a command about the lock. */
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
    // It is asked again and again: each answer closes its connection.
    await using locks = postgresLocks({ connectionString: this.postgres.url() })
    return (await locks.inspectLock(t.name)).state
  }
}
