// What a TypeScript program may pass to locks on PostgreSQL; compiled, not run.
import pg from 'pg'
import { type PostgresPool, type PostgresPoolClient, postgresLocks } from 'reconcile-lock/postgres'

postgresLocks({ connectionString: 'postgres://localhost' })
postgresLocks({ connect: () => new pg.Client() })
postgresLocks({ pool: new pg.Pool() })

declare const connect: () => Promise<PostgresPoolClient>
const pool: PostgresPool = { connect, totalCount: 1 }
postgresLocks({ pool })
// @ts-expect-error the run time refuses a pool without totalCount
postgresLocks({ pool: { connect } })
// @ts-expect-error a client is no pool
postgresLocks({ pool: new pg.Client() })
