import type { AcquireOptions, PostgresOptions } from '../../postgres.js'

/** A lock, with the defaults filled in. */
export interface Request {
  name: string
  message: string
  timeout: number
  signal: AbortSignal | undefined
  onWait: AcquireOptions['onWait']
  force: boolean
}

/** The times and places of all locks of one database. */
export interface Settings {
  connectionString: string | undefined
  connect: PostgresOptions['connect']
  pool: PostgresOptions['pool']
  maxConnections: number
  schema: string | undefined
  sessionTimeout: number
  connectTimeout: number
}
