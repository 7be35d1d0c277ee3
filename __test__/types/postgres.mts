// The arguments that TypeScript accepts for locks on PostgreSQL; compiled, not run.
import pg from 'pg'
import {
  lockInTransaction,
  type PostgresPool,
  type PostgresPoolClient,
  postgresLocks,
} from 'reconcile-lock/postgres'

postgresLocks({ connectionString: 'postgres://localhost' })
postgresLocks({ connect: () => new pg.Client() })
postgresLocks({ pool: new pg.Pool() })

declare const connect: () => Promise<PostgresPoolClient>
const pool: PostgresPool = { connect, totalCount: 1 }
postgresLocks({ pool })
// @ts-expect-error the run time refuses a pool without totalCount
postgresLocks({ pool: { connect } })
// @ts-expect-error a client is not a pool
postgresLocks({ pool: new pg.Client() })

// Until 8.20.1 `@types/pg` had no `end` for a client of a pool.
type Older = Omit<pg.PoolClient, 'end'>
declare const client: Older
declare const older: { connect(): Promise<Older>; readonly totalCount: number }
postgresLocks({ pool: older })
await lockInTransaction(client, 'reconcile')
await lockInTransaction(new pg.Client(), 'reconcile')
// @ts-expect-error the run time refuses a pool
await lockInTransaction(new pg.Pool(), 'reconcile')
// @ts-expect-error the run time refuses a client of a pool, and would not end it
postgresLocks({ connect: async () => client })
