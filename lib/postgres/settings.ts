import type { AcquireOptions, PostgresOptions } from '../../postgres.js'

/** The options of a call, with the defaults filled in. */
export interface Request {
  name: string
  message: string
  shared: boolean
  timeout: number
  signal: AbortSignal | undefined
  onWait: AcquireOptions['onWait']
  force: boolean
}

/** The options of all locks of one database, with the defaults filled in. */
export interface Settings {
  connectionString: string | undefined
  connect: PostgresOptions['connect']
  pool: PostgresOptions['pool']
  maxConnections: number
  schema: string | undefined
  sessionTimeout: number
  connectTimeout: number
}
