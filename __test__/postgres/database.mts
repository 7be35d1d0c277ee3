// The command line and the library about one lock on a server of their own, which is named as the test is.
import assert from 'node:assert/strict'
import type { TestContext } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
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
    return (await this.locks(t).inspectLock(t.name)).state
  }

  /** Waits until so many sessions queue for a lock. */
  async queues(count: number): Promise<void> {
    const waiting = `SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted`
    for (
      const end = Date.now() + 20_000;
      (await this.postgres.sql(waiting)).length !== count;
      await delay(10)
    )
      assert.ok(Date.now() < end, `never ${count} in the queue`)
  }
}
