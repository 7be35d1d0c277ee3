import { halves } from './key.js'

// All statements. Each returns one row with one column of JSON as text, so that type parsers of the program do not
// matter.
//
// A session searches functions, operators and types only in `pg_catalog`, and tables are named with their schema, so
// that no statement runs objects of other roles. Statements that run before that is set name `pg_catalog` themselves.

/** Advisory locks and the table belong to one database. */
const CURRENT_DATABASE_OID = '(SELECT oid FROM pg_database WHERE datname = current_database())'

/** The start of a server process in microseconds: with its process id, which is reused, it identifies one process. */
const STARTED = 'floor(extract(epoch FROM backend_start) * 1000000)::bigint::text'
const MY_START = `(SELECT ${STARTED} FROM pg_stat_activity WHERE pid = pg_backend_pid())`

const HOLDER = `json_build_object('pid', pid, 'thread', thread, 'host', host, 'application', application,
    'createdAt', CASE WHEN isfinite(acquired_at) THEN floor(extract(epoch FROM acquired_at) * 1000) END,
    'backend', backend, 'started', started, 'token', token::text)`

/** The sessions that hold an advisory lock; `objsubid` 1 marks a key of 64 bits, which is shown in two halves. */
const locks = (
  classid: string,
  objid: string,
) => `pg_locks WHERE locktype = 'advisory' AND database = ${CURRENT_DATABASE_OID}
    AND granted AND classid = ${classid}::bigint::oid AND objid = ${objid}::bigint::oid AND objsubid = 1`

const HOLDS = (classid: string, objid: string) =>
  `EXISTS (SELECT FROM ${locks(classid, objid)} AND pid = pg_backend_pid())`

/**
 * The session that owns the lock, and those that hold it in shared mode. Other roles are hidden from some. A prepared
 * transaction has no process, and counts as process 0.
 */
const SESSIONS = (classid: string, objid: string) => `
  'backend', (SELECT coalesce(pid, 0) FROM ${locks(classid, objid)} AND mode = 'ExclusiveLock' LIMIT 1),
  'readers', (SELECT coalesce(json_agg(json_build_object('backend', pid, 'user', usename,
      'application', application_name) ORDER BY pid), '[]')
    FROM (SELECT coalesce(pid, 0) AS pid FROM ${locks(classid, objid)} AND mode = 'ShareLock') AS reader
      LEFT JOIN pg_stat_activity USING (pid))`

/** A holder in shared mode, which no row names. */
const reader = (pid: string, thread: string, host: string, token: string) => `json_build_object(
    'pid', ${pid}::bigint, 'thread', ${thread}::bigint, 'host', ${host}::text,
    'application', current_setting('application_name'),
    'createdAt', floor(extract(epoch FROM clock_timestamp()) * 1000), 'backend', pg_backend_pid(),
    'started', ${MY_START}, 'token', coalesce(${token}, 0)::text)`

const quoted = (name: string): string => `"${name.replaceAll('"', '""')}"`
const literal = (text: string): string => `'${text.replaceAll("'", "''")}'`

/** The table in a schema, or in the `search_path`. */
export function tableName(schema?: string): string {
  return schema === undefined ? 'reconcile_lock' : `${quoted(schema)}.reconcile_lock`
}

/** The collation of the database can change with the system; then its index would miss names. */
export function createTable(table: string): string {
  return `CREATE TABLE IF NOT EXISTS ${table} (
  name text COLLATE "C" PRIMARY KEY,
  key bigint NOT NULL UNIQUE,
  token bigint NOT NULL,
  pid bigint NOT NULL,
  thread bigint NOT NULL,
  host text NOT NULL,
  application text NOT NULL,
  backend integer NOT NULL,
  started text,
  acquired_at timestamptz NOT NULL,
  released_at timestamptz
)`
}

/** The statements on the table of one schema. */
export interface Statements {
  create: string
  record: string
  recordShared: string
  restore: string
  read: string
  clear: string
  release(key: bigint, token: bigint): string
}

export function statementsFor(schema: string): Statements {
  const table = tableName(schema)
  return {
    create: createTable(table),
    // `before` is the row of the last holder: only the holder writes it. The clock makes tokens grow if the row, or
    // the last transactions before a failover, are lost; the row makes them grow if the clock is set back. Without the
    // lock, such as on a server whose advisory locks do nothing, no row is written.
    record: `WITH before AS (SELECT * FROM ${table} WHERE name = $1)
INSERT INTO ${table} AS mine (name, key, token, pid, thread, host, application, backend, started, acquired_at)
SELECT $1, $2::bigint, floor(extract(epoch FROM clock_timestamp()) * 1000000), $3::bigint, $4::bigint, $5,
  current_setting('application_name'), pg_backend_pid(), ${MY_START}, clock_timestamp()
WHERE ${HOLDS('$6', '$7')}
ON CONFLICT (name) DO UPDATE SET key = excluded.key, token = greatest(mine.token + 1, excluded.token),
  pid = excluded.pid, thread = excluded.thread, host = excluded.host, application = excluded.application,
  backend = excluded.backend, started = excluded.started, acquired_at = excluded.acquired_at, released_at = NULL
RETURNING json_build_object('holder', ${HOLDER},
  'previousHolder', (SELECT ${HOLDER} FROM before WHERE released_at IS NULL))::text AS answer`,
    restore: `UPDATE ${table} SET pid = $3, thread = $4, host = $5, application = $6, backend = $7, started = $8,
  acquired_at = to_timestamp($9::double precision / 1000) WHERE key = $1 AND token = $2
RETURNING 'true' AS answer`,
    read: `SELECT json_build_object(
  'holder', (SELECT ${HOLDER} FROM ${table} WHERE name = $1),
  'isReleased', (SELECT released_at IS NOT NULL FROM ${table} WHERE name = $1),
  ${SESSIONS('$2', '$3')})::text AS answer`,
    recordShared: `SELECT json_build_object('holder', ${reader('$1', '$2', '$3', `(SELECT token FROM ${table} WHERE name = $4)`)},
  'previousHolder', (SELECT ${HOLDER} FROM ${table} WHERE name = $4 AND released_at IS NULL))::text AS answer
WHERE ${HOLDS('$5', '$6')}`,
    clear: `UPDATE ${table} SET released_at = clock_timestamp()
WHERE key = $1 AND released_at IS NULL RETURNING 'true' AS answer`,
    // In one message, because the row must be written before the lock is free; without a flush to the disk, because a
    // crash that undoes it only makes the next holder report a take-over. Only numbers are inserted into the text.
    release: (key, token) => `BEGIN; SET LOCAL synchronous_commit = off;
UPDATE ${table} SET released_at = clock_timestamp() WHERE key = ${key} AND token = ${token};
COMMIT; SELECT pg_advisory_unlock(${key})::text AS answer`,
  }
}

export const readWithoutTable = `SELECT json_build_object(${SESSIONS('$1', '$2')})::text AS answer`

export const recordSharedWithoutTable = `SELECT json_build_object('holder', ${reader('$1', '$2', '$3', 'NULL::bigint')},
  'previousHolder', NULL)::text AS answer
WHERE ${HOLDS('$4', '$5')}`

/** The owner of the table, and whether that role has the rights of this session anyway. No row: no table. */
export const tableOwner = `SELECT json_build_object('owner', owner.rolname, 'user', current_user, 'kind', relkind,
  'isTrusted', owner.rolsuper OR owner.oid IN (
    WITH RECURSIVE ours (role) AS (SELECT oid FROM pg_roles WHERE rolname = current_user
      UNION SELECT roleid FROM pg_auth_members JOIN ours ON member = role)
    SELECT role FROM ours))::text AS answer
FROM pg_class JOIN pg_roles AS owner ON owner.oid = relowner
WHERE relname = 'reconcile_lock' AND relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = $1)`

/** Ends one of our sessions whose connection is lost. */
export const endSession = `SELECT coalesce(bool_or(pg_terminate_backend(pid)), false)::text AS answer
FROM pg_stat_activity WHERE pid = $1::int AND ${STARTED} = $2`

/** As {@link endSession}, if the session still has its mark: a pooler resets it before it lends it to another client. */
export const endMarkedSession = `${endSession}
  AND EXISTS (SELECT FROM ${locks('$3', '$4')} AND pg_locks.pid = $1::int)`

/** Ends the session that the table names as the holder, if it still is that session. */
export const endHolder = `SELECT json_build_object('isHeld', count(*) > 0,
  'isHidden', coalesce(bool_or(started IS NULL AND $4::text IS NOT NULL), false),
  'isEnded', coalesce(bool_or(pg_terminate_backend(pid)) FILTER (WHERE started IS NOT DISTINCT FROM $4), false)
)::text AS answer
FROM (SELECT pid FROM ${locks('$1', '$2')} AND pid = $3::int) AS holder
  LEFT JOIN (SELECT pid, ${STARTED} AS started FROM pg_stat_activity) AS activity USING (pid)`

/** Whether this session holds the lock. */
export const holds = `SELECT ${HOLDS('$1', '$2')}::text AS answer`
/** Also for sessions whose `search_path` is that of the program. */
export const tryLock = 'SELECT pg_catalog.pg_try_advisory_lock($1)::pg_catalog.text AS answer'
export const unlock = 'SELECT pg_catalog.pg_advisory_unlock($1)::pg_catalog.text AS answer'
export const unlockWithoutRow = (key: bigint): string =>
  `ROLLBACK; SELECT pg_advisory_unlock(${key})::text AS answer`
/** Readers try their turn first: a call that waits for readers holds it. */
export const tryLockShared = (key: bigint, turn: bigint): string => `SELECT (CASE
  WHEN NOT pg_try_advisory_lock_shared(${turn}) THEN false
  WHEN pg_try_advisory_lock_shared(${key}) THEN pg_advisory_unlock_shared(${turn})
  ELSE NOT pg_advisory_unlock_shared(${turn}) END)::text AS answer`
export const unlockShared = (key: bigint): string =>
  `SELECT pg_advisory_unlock_shared(${key})::text AS answer`
/** For a transaction of the program, with its own `search_path`. Outside a transaction the savepoint fails. */
export const lockTransaction = (key: bigint, [classid, objid]: [string, string]): string =>
  `SAVEPOINT reconcile_lock; RELEASE SAVEPOINT reconcile_lock;
SELECT CASE WHEN pg_catalog.pg_is_in_recovery() THEN 'standby'
  WHEN NOT pg_catalog.pg_try_advisory_xact_lock(${key}) THEN 'false'
  WHEN EXISTS (SELECT FROM pg_catalog.pg_locks WHERE granted AND locktype OPERATOR(pg_catalog.=) 'advisory'
    AND pid OPERATOR(pg_catalog.=) pg_catalog.pg_backend_pid() AND objsubid OPERATOR(pg_catalog.=) 1
    AND classid OPERATOR(pg_catalog.=) '${classid}'::pg_catalog.oid
    AND objid OPERATOR(pg_catalog.=) '${objid}'::pg_catalog.oid) THEN 'true'
  ELSE 'unsupported' END AS answer`

/**
 * Waits for the lock, and returns whether the session holds it. PL/pgSQL catches the timeout, which the server would
 * log otherwise. The timeout can come after the server has granted the lock and before the session wakes: then the
 * statement fails with the lock held (`LockErrorCleanup` in PostgreSQL's storage/lmgr/proc.c), so `pg_locks` is read.
 */
export const lockWithin = (key: bigint, [classid, objid]: [string, string], milliseconds: number): string =>
  `SET LOCAL lock_timeout = ${milliseconds};
DO $$BEGIN PERFORM pg_advisory_lock(${key}); EXCEPTION WHEN lock_not_available THEN NULL; END$$;
SELECT ${HOLDS(classid, objid)}::text AS answer`

/** As {@link lockWithin}, in shared mode. */
export const lockSharedWithin = (
  key: bigint,
  [classid, objid]: [string, string],
  milliseconds: number,
  turn: bigint,
): string => `SET LOCAL lock_timeout = ${milliseconds};
DO $$BEGIN
  PERFORM pg_advisory_lock_shared(${turn});
  PERFORM pg_advisory_lock_shared(${key});
EXCEPTION WHEN lock_not_available THEN NULL; END$$;
${endTurn(turn, 'pg_advisory_unlock_shared')};
SELECT ${HOLDS(classid, objid)}::text AS answer`

/**
 * As {@link lockWithin}, for a lock that readers hold. The session keeps its turn until it has the lock, or is idle for
 * longer than `idle`: a waiter that is stopped must not keep readers out.
 */
export const lockInTurnWithin = (
  key: bigint,
  [classid, objid]: [string, string],
  milliseconds: number,
  turn: bigint,
  idle: number,
): string => `SET LOCAL lock_timeout = ${milliseconds};
DO $$BEGIN
  IF NOT ${HOLDS(...(halves(turn) as [string, string]))} THEN PERFORM pg_advisory_lock(${turn}); END IF;
  PERFORM pg_advisory_lock(${key});
EXCEPTION WHEN lock_not_available THEN NULL; END$$;
${endTurn(turn, 'pg_advisory_unlock', HOLDS(classid, objid))};
${limitIdle(`CASE WHEN ${HOLDS(...(halves(turn) as [string, string]))} THEN '${Math.round(idle)}' ELSE '0' END`)};
SELECT ${HOLDS(classid, objid)}::text AS answer`

/** Servers below 14 lack the setting. */
const limitIdle = (milliseconds: string): string =>
  `SELECT set_config('idle_session_timeout', ${milliseconds}, false)
WHERE current_setting('idle_session_timeout', true) IS NOT NULL`

/** Ends a turn in which the lock was not acquired. */
export const leaveTurn = (turn: bigint, unlock: string): string =>
  `${limitIdle("'0'")}; ${endTurn(turn, unlock)}`

/** Unlocks the turn if this session has it: the server warns otherwise. */
function endTurn(turn: bigint, unlock = 'pg_advisory_unlock', condition = 'true'): string {
  const isHeld = `${HOLDS(...(halves(turn) as [string, string]))} AND ${condition}`
  return `SELECT (CASE WHEN ${isHeld} THEN ${unlock}(${turn}) END)::text AS answer`
}

/** Identifies the session before its `search_path` is set. Behind a pooler, another session may run each statement. */
export const sessionIdentity = `SELECT pg_catalog.json_build_object('backend', pg_catalog.pg_backend_pid(),
  'schema', pg_catalog.current_schema(), 'path', pg_catalog.current_setting('search_path'),
  'isStandby', pg_catalog.pg_is_in_recovery())::pg_catalog.text AS answer`
/** Without parameters, so not prepared: another client of a shared session may use the same statement name. */
export const notify = (channel: string): string =>
  `SELECT pg_catalog.to_json(pg_catalog.pg_notify('${channel}', '')::pg_catalog.text)::pg_catalog.text AS answer`

/**
 * The settings that override those of the role, the database and the server. A server that lacks one of them is too old
 * for it. `synchronous_commit` waits only for the server's own disk, so that an absent standby delays no lock.
 * https://www.postgresql.org/docs/current/runtime-config-client.html
 */
export function sessionSettings(sessionTimeout: number): Record<string, string> {
  const seconds = Math.round(sessionTimeout / 1000)
  const idle = Math.max(1, Math.floor(seconds / 2))
  const interval = Math.max(1, Math.round(seconds / 10))
  return {
    statement_timeout: '0',
    // For rows of the table, which others may lock: the server reports that before the session counts as lost.
    lock_timeout: String(Math.round(sessionTimeout / 8)),
    transaction_timeout: '0',
    idle_session_timeout: '0',
    idle_in_transaction_session_timeout: '0',
    default_transaction_isolation: 'read committed',
    default_transaction_read_only: 'off',
    synchronous_commit: 'local',
    tcp_keepalives_idle: String(idle),
    tcp_keepalives_interval: String(interval),
    tcp_keepalives_count: String(Math.max(1, Math.floor((seconds - idle) / interval))),
    tcp_user_timeout: String(seconds * 1000),
  }
}

/** Applies the settings; returns their previous values and the start of this server process. */
export const applySettings = (settings: Record<string, string>): string => {
  const wanted = `json_each_text(${literal(JSON.stringify(settings))}) AS wanted (name, value)`
  return `SET search_path TO pg_catalog;
SELECT json_build_object('started', ${MY_START}, 'before', (SELECT json_object_agg(name, current_setting(name, true))
    FROM ${wanted} WHERE current_setting(name, true) IS NOT NULL),
  'set', (SELECT count(set_config(name, value, false)) FROM ${wanted} WHERE current_setting(name, true) IS NOT NULL)
)::text AS answer`
}

/** Sets the settings of a JSON object, in a session whose `search_path` may be that of the program. */
export const restoreSettings =
  'SELECT pg_catalog.count(pg_catalog.set_config(name, value, false))::pg_catalog.text AS answer ' +
  'FROM pg_catalog.json_each_text($1) AS setting (name, value)'
