// Every statement, each with one row of one column, JSON as text: what a program has set for its own types of `pg`
// changes nothing here.

/** Advisory locks are of one database, and so is the table. */
const HERE = '(SELECT oid FROM pg_database WHERE datname = current_database())'

const HOLDER = `json_build_object('pid', pid, 'thread', thread, 'host', host, 'application', application,
    'createdAt', floor(extract(epoch FROM acquired_at) * 1000), 'backend', backend, 'token', token::text)`

export interface Statements {
  create: string
  record: string
  restore: string
  read: string
  clear: string
  release(key: bigint, token: bigint): string
}

const quoted = (name: string): string => `"${name.replaceAll('"', '""')}"`

export function tableName(schema?: string): string {
  return schema === undefined ? 'reconcile_lock' : `${quoted(schema)}.reconcile_lock`
}

export function createTable(table: string): string {
  return `CREATE TABLE IF NOT EXISTS ${table} (
  name text PRIMARY KEY,
  key bigint NOT NULL UNIQUE,
  token bigint NOT NULL,
  pid bigint NOT NULL,
  thread bigint NOT NULL,
  host text NOT NULL,
  application text NOT NULL,
  backend integer NOT NULL,
  acquired_at timestamptz NOT NULL,
  released_at timestamptz
)`
}

export function statementsFor(table: string): Statements {
  return {
    create: createTable(table),
    // `before` is the row as the last holder left it: nobody but the holder writes it. The clock keeps tokens growing
    // although the row, or a fail-over's last transactions, were lost; the row does although the clock is set back.
    record: `WITH before AS (SELECT * FROM ${table} WHERE name = $1)
INSERT INTO ${table} AS mine (name, key, token, pid, thread, host, application, backend, acquired_at)
VALUES ($1, $2, floor(extract(epoch FROM clock_timestamp()) * 1000000), $3, $4, $5,
  current_setting('application_name'), pg_backend_pid(), clock_timestamp())
ON CONFLICT (name) DO UPDATE SET key = excluded.key, token = greatest(mine.token + 1, excluded.token),
  pid = excluded.pid, thread = excluded.thread, host = excluded.host, application = excluded.application,
  backend = excluded.backend, acquired_at = excluded.acquired_at, released_at = NULL
RETURNING json_build_object('holder', ${HOLDER},
  'before', (SELECT ${HOLDER} FROM before WHERE released_at IS NULL))::text AS answer`,
    restore: `UPDATE ${table} SET pid = $3, thread = $4, host = $5, application = $6, backend = $7,
  acquired_at = to_timestamp($8::double precision / 1000) WHERE key = $1 AND token = $2
RETURNING 'true' AS answer`,
    read: `SELECT json_build_object(
  'holder', (SELECT ${HOLDER} FROM ${table} WHERE name = $1),
  'isReleased', (SELECT released_at IS NOT NULL FROM ${table} WHERE name = $1),
  'backend', ${lockedBy('$2', '$3')})::text AS answer`,
    clear: `UPDATE ${table} SET released_at = clock_timestamp()
WHERE key = $1 AND released_at IS NULL RETURNING 'true' AS answer`,
    // In one message, as the lock must not go before the row is written; and without a flush to the disk: what a
    // crash of the server undoes of it makes the next run believe in a take-over, no more. Numbers only.
    release: (key, token) => `BEGIN; SET LOCAL synchronous_commit = off;
UPDATE ${table} SET released_at = clock_timestamp() WHERE key = ${key} AND token = ${token};
COMMIT; SELECT pg_advisory_unlock(${key})::text AS answer`,
  }
}

/** The session that holds the advisory lock; two halves make a key, and `objsubid` 1 says that they are one. */
function lockedBy(classid: string, objid: string): string {
  return `(SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND database = ${HERE} AND granted
    AND classid = ${classid}::bigint::oid AND objid = ${objid}::bigint::oid AND objsubid = 1 LIMIT 1)`
}

export const readWithoutTable = `SELECT json_build_object('backend', ${lockedBy('$1', '$2')})::text AS answer`
/** Ends the session if it still holds the lock. */
export const terminate = `SELECT coalesce(bool_or(pg_terminate_backend(pid)), false)::text AS answer
FROM pg_locks WHERE locktype = 'advisory' AND database = ${HERE} AND granted AND pid = $3::int
  AND classid = $1::bigint::oid AND objid = $2::bigint::oid AND objsubid = 1`
/** Whether this session holds the lock. */
export const holds = `SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND database = ${HERE} AND granted
  AND pid = pg_backend_pid()
  AND classid = $1::bigint::oid AND objid = $2::bigint::oid AND objsubid = 1)::text AS answer`
export const tryLock = 'SELECT pg_try_advisory_lock($1)::text AS answer'
export const unlock = 'SELECT pg_advisory_unlock($1)::text AS answer'
export const cancel = 'SELECT pg_cancel_backend($1)::text AS answer'
/** Without parameters, and so not prepared: in a session that others share, that name may be taken. */
export const notify = (channel: string): string =>
  `SELECT to_json(pg_notify('${channel}', '')::text)::text AS answer`
export const whoami = 'SELECT pg_backend_pid()::text AS answer'

/** Waits; an error, such as the end of that time, undoes the setting with the rest of the implicit transaction. */
export function lockWithin(key: bigint, milliseconds: number): string {
  return `SET LOCAL lock_timeout = ${milliseconds}; SELECT pg_advisory_lock(${key}); SELECT 'true' AS answer`
}

/**
 * What the session needs, whatever the role, the database or the server have set. A server that lacks one of them is
 * too old for it. `synchronous_commit` is only ever raised.
 * https://www.postgresql.org/docs/current/runtime-config-client.html
 */
export function sessionSettings(sessionTimeout: number): Record<string, string> {
  const seconds = Math.round(sessionTimeout / 1000)
  const idle = Math.max(1, Math.floor(seconds / 2))
  const interval = Math.max(1, Math.round(seconds / 10))
  return {
    statement_timeout: '0',
    lock_timeout: '0',
    transaction_timeout: '0',
    idle_session_timeout: '0',
    idle_in_transaction_session_timeout: '0',
    default_transaction_isolation: 'read committed',
    default_transaction_read_only: 'off',
    tcp_keepalives_idle: String(idle),
    tcp_keepalives_interval: String(interval),
    tcp_keepalives_count: String(Math.max(1, Math.floor((seconds - idle) / interval))),
    tcp_user_timeout: String(seconds * 1000),
  }
}

export const applySettings = `SELECT json_build_object(
  'set', (SELECT count(set_config(name, value, false)) FROM json_each_text($1::json) AS wanted (name, value)
    WHERE current_setting(name, true) IS NOT NULL),
  'synchronous', (SELECT set_config('synchronous_commit', 'on', false)
    WHERE current_setting('synchronous_commit') = 'off'))::text AS answer`

/** Ends a wait whose client has gone; PostgreSQL 14 and newer, and not on every system. */
export const watchClient = `SELECT to_json(set_config('client_connection_check_interval', $1, false))::text AS answer
WHERE current_setting('client_connection_check_interval', true) IS NOT NULL`
