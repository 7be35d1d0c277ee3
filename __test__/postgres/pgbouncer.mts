import { type ChildProcess, spawn } from 'node:child_process'
import { chownSync, existsSync, mkdtempSync, realpathSync, rmSync, writeFileSync } from 'node:fs'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { TestContext } from 'node:test'
import { freePort } from '../support/port.mjs'
import { until } from '../support/time.mjs'
import { owner, PASSWORD, type Postgres, USER } from './postgres.mjs'

export const PGBOUNCER = '/usr/sbin/pgbouncer'

/** Starts a pooler in front of a server until the test ends; returns the URL of the database through it. */
export async function pooled(
  t: TestContext,
  postgres: Postgres,
  settings: Record<string, string | number>,
): Promise<string> {
  if (!existsSync(PGBOUNCER)) throw new Error('PgBouncer is not installed: apt-get install pgbouncer')
  const home = mkdtempSync(join(realpathSync(tmpdir()), 'reconcile-pgbouncer-'))
  const port = await freePort()
  const all = {
    listen_addr: '127.0.0.1',
    listen_port: port,
    unix_socket_dir: '',
    auth_type: 'plain',
    auth_file: join(home, 'users'),
    logfile: join(home, 'log'),
    ...settings,
  }
  const lines = Object.entries(all).map(([name, value]) => `${name} = ${value}`)
  const database = `ledger = host=127.0.0.1 port=${postgres.port} dbname=ledger`
  writeFileSync(join(home, 'ini'), `[databases]\n${database}\n[pgbouncer]\n${lines.join('\n')}\n`)
  writeFileSync(join(home, 'users'), `"${USER}" "${PASSWORD}"\n`)
  const as = owner()
  if (as) for (const path of [home, join(home, 'ini'), join(home, 'users')]) chownSync(path, as.uid, as.gid)
  const pooler = spawn(PGBOUNCER, ['-q', join(home, 'ini')], { ...as, stdio: 'ignore' })
  t.after(() => {
    pooler.kill('SIGKILL')
    rmSync(home, { recursive: true })
  })
  await answers(pooler, port)
  return postgres.url('ledger', USER, PASSWORD, port)
}

async function answers(pooler: ChildProcess, port: number): Promise<void> {
  await until(async () => {
    if (pooler.exitCode !== null) throw new Error(`pgbouncer ended with ${pooler.exitCode}`)
    const socket = connect(port, '127.0.0.1')
    const isUp = await new Promise((resolve) => {
      socket.once('connect', () => resolve(true)).once('error', () => resolve(false))
    })
    socket.destroy()
    return isUp
  }, 'pgbouncer answers')
}
