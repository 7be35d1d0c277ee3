// Another role creates objects in `public`, first in our search path: none of them runs with our rights.
import assert from 'node:assert/strict'
import { after, before, type TestContext, test } from 'node:test'
import pg from 'pg'
import { lockInTransaction, postgresLocks, tableSql } from 'reconcile-lock/postgres'
import { rejection } from '../support/directory.mjs'
import { BackendProcess } from './backend.mjs'
import { Postgres, USER } from './postgres.mjs'

const MALLORY = 'mallory'

let postgres: Postgres
before(async () => {
  postgres = await Postgres.start()
  await superuser(`CREATE ROLE ${MALLORY} LOGIN PASSWORD '${MALLORY}'`)
})
after(() => postgres.stop())

const superuser = (text: string, database = 'ledger') => postgres.sql(text, database, 'postgres')

/** A database with `public` first in the search path, in which all roles may create, as before PostgreSQL 15. */
async function database(
  t: TestContext,
  name: string,
): Promise<{ url: string; mallory: (text: string) => Promise<unknown> }> {
  await superuser(`CREATE DATABASE ${name} OWNER ${USER}`)
  await superuser('GRANT CREATE, USAGE ON SCHEMA public TO PUBLIC', name)
  await superuser(`ALTER ROLE ${USER} IN DATABASE ${name} SET search_path TO public, pg_catalog`)
  t.after(() => superuser(`ALTER ROLE ${USER} IN DATABASE ${name} RESET search_path`))
  const client = new pg.Client({ connectionString: postgres.url(name, MALLORY) })
  await client.connect()
  t.after(() => client.end())
  return { url: postgres.url(name), mallory: (text) => client.query(text) }
}

const trap = (what: string) => `LANGUAGE plpgsql AS $trap$BEGIN RAISE 'hostile ${what}'; END$trap$`

/** Shadows system functions without `any` and `internal` arguments, and some others for a few types. */
async function plantFunctions(url: string, mallory: (text: string) => Promise<unknown>): Promise<number> {
  const functions = await superuser(
    `SELECT proname AS name, pg_get_function_identity_arguments(oid) AS args, pg_get_function_result(oid) AS result
      FROM pg_proc WHERE pronamespace = 'pg_catalog'::regnamespace AND prokind = 'f'
        AND (proname ~ '^(pg_(try_)?advisory|pg_backend|pg_(cancel|terminate)_backend|pg_is_in|pg_notify|current_|set_config|floor|clock_timestamp|to_timestamp|isfinite|json|to_json|format|text|int8|oid|date_part|extract)')
        AND NOT EXISTS (SELECT FROM unnest(proargtypes) AS type
          WHERE type::regtype::text IN ('internal', '"any"', 'anyelement', 'cstring', 'anyarray', 'any'))`,
    new URL(url).pathname.slice(1),
  )
  let count = 0
  for (const { name, args, result } of functions) {
    if (/internal|trigger|cstring/.test(result)) continue
    await mallory(`CREATE FUNCTION public."${name}"(${args}) RETURNS ${result} ${trap(name)}`).then(
      () => {
        count += 1
      },
      // PostgreSQL rejects some names and result types.
      (error) => assert.match(error.code, /^(42|0A)/, `${name}: ${error.message}`),
    )
  }
  for (const type of ['text', 'integer', 'bigint', 'boolean', 'json']) {
    await mallory(`CREATE FUNCTION public.to_json(${type}) RETURNS json ${trap('to_json')}`)
    await mallory(`CREATE FUNCTION public.json_build_object(text, ${type}) RETURNS json ${trap('object')}`)
    await mallory(`CREATE FUNCTION public.count_${type}(bigint, ${type}) RETURNS bigint ${trap('count')}`)
    await mallory(
      `CREATE AGGREGATE public.count(${type}) (SFUNC = count_${type}, STYPE = bigint, INITCOND = '0')`,
    )
  }
  return count
}

/** Creates operators, types and views that a statement without a schema would use. */
async function plantTheRest(mallory: (text: string) => Promise<unknown>): Promise<void> {
  for (const [left, right] of [
    ['text', 'text'],
    ['name', 'name'],
    ['oid', 'oid'],
    ['integer', 'integer'],
    ['bigint', 'bigint'],
    ['integer', 'bigint'],
  ]) {
    const name = `trap_${left}_${right}`
    await mallory(`CREATE FUNCTION public.${name}(${left}, ${right}) RETURNS boolean ${trap('operator')}`)
    for (const operator of ['=', '>', '<', '<>'])
      await mallory(
        `CREATE OPERATOR public.${operator} (LEFTARG = ${left}, RIGHTARG = ${right}, FUNCTION = public.${name})`,
      )
  }
  for (const type of ['text', 'oid', 'timestamptz', 'int8'])
    await mallory(`CREATE DOMAIN public.${type} AS pg_catalog.varchar CHECK (length(VALUE) > 1000)`)
  for (const view of ['pg_locks', 'pg_stat_activity', 'pg_class', 'pg_roles', 'pg_namespace', 'pg_database'])
    await mallory(`CREATE VIEW public.${view} AS SELECT 1 AS nothing`)
}

test('objects of another role do not run in our statements', async (t) => {
  const { url, mallory } = await database(t, 'planted')
  assert.ok((await plantFunctions(url, mallory)) > 50)
  await plantTheRest(mallory)
  const hijacked = await rejection(postgres.sql("SELECT to_json('x'::pg_catalog.text)", 'planted'))
  assert.match(hijacked.message, /^hostile/, 'control: an ordinary session runs it')

  const locks = postgresLocks({ connectionString: url, sessionTimeout: 4000, schema: 'public' })
  t.after(() => locks.close())
  const lock = await locks.acquireLock('a')
  assert.equal((await rejection(locks.acquireLock('a'))).code, 'E_LOCK_CONTENTION')
  assert.equal((await locks.inspectLock('a')).holder?.pid, process.pid)
  await lock.confirm()
  const waiting = locks.acquireLock({ name: 'a', timeout: 20_000, onWait() {} })
  await postgres.queues(1)
  await lock.release()
  await (await waiting).release()
  // A take-over, a break with force, and a release after the loss.
  const peer = new BackendProcess(t, 'postgres', url)
  await peer.asks('acquire', { name: 'b' })
  await peer.ends('SIGKILL')
  const taken = await locks.acquireLock({ name: 'b', timeout: 10_000 })
  assert.equal(taken.takenOver?.holder.pid, peer.child.pid)
  assert.equal(await locks.breakLock({ name: 'b', force: true }), true)
  assert.equal((await rejection(taken.release())).code, 'E_LOCK_LOST')
  // An acquire that is aborted while it is recorded is rolled back.
  const abort = new AbortController()
  const aborted = rejection(locks.acquireLock({ name: 'b', timeout: 5000, signal: abort.signal }))
  abort.abort()
  await aborted
  const client = new pg.Client({ connectionString: url })
  await client.connect()
  await client.query('BEGIN')
  await lockInTransaction(client, 'c')
  await client.end()
})

for (const [what, sql] of [
  [
    'table with a trigger',
    (create: string) =>
      `${create}; CREATE TRIGGER t BEFORE INSERT ON public.reconcile_lock EXECUTE FUNCTION public.theft()`,
  ],
  ['view', () => 'CREATE VIEW public.reconcile_lock AS SELECT public.stolen() AS name'],
] as const)
  test(`another role's ${what} is refused unread`, async (t) => {
    const { url, mallory } = await database(t, what === 'view' ? 'viewed' : 'triggered')
    await mallory(`CREATE FUNCTION public.theft() RETURNS trigger ${trap('trigger')}`)
    await mallory(`CREATE FUNCTION public.stolen() RETURNS pg_catalog.text ${trap('view')}`)
    await mallory(sql(tableSql('public').replace(/;\s*$/, '')))
    await mallory('GRANT ALL ON public.reconcile_lock TO PUBLIC')
    const locks = postgresLocks({ connectionString: url })
    t.after(() => locks.close())
    for (const call of [() => locks.acquireLock(), () => locks.inspectLock(), () => locks.breakLock()]) {
      const error = await rejection(call())
      assert.equal(error.code, 'E_LOCK_TABLE')
      assert.match(error.message, new RegExp(`belongs to the role ${MALLORY}`))
    }
    assert.deepEqual(await superuser("SELECT FROM pg_locks WHERE locktype = 'advisory'"), [])
  })

test('a table owned by a parent role is trusted', async (t) => {
  const { url, mallory } = await database(t, 'member')
  await mallory(tableSql('public'))
  await mallory('GRANT ALL ON public.reconcile_lock TO PUBLIC')
  await superuser(`GRANT ${MALLORY} TO ${USER}`)
  t.after(() => superuser(`REVOKE ${MALLORY} FROM ${USER}`))
  const locks = postgresLocks({ connectionString: url })
  t.after(() => locks.close())
  await (await locks.acquireLock()).release()
})

test('without a search path the proposed SQL names a schema', async (t) => {
  await superuser(`CREATE DATABASE pathless OWNER ${USER}`)
  await superuser(`ALTER ROLE ${USER} IN DATABASE pathless SET search_path TO ''`)
  t.after(() => superuser(`ALTER ROLE ${USER} IN DATABASE pathless RESET search_path`))
  const locks = postgresLocks({ connectionString: postgres.url('pathless') })
  t.after(() => locks.close())
  const error = await rejection(locks.acquireLock())
  assert.equal(error.code, 'E_LOCK_TABLE')
  assert.match(error.message, /CREATE TABLE IF NOT EXISTS "public"\.reconcile_lock/)
  assert.equal((await locks.inspectLock()).state, 'free')
})
