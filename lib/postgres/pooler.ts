import { randomUUID } from 'node:crypto'
import { delay } from '../shared/clock.js'
import { lockError } from '../shared/errors.js'
import type { Session } from './session.js'
import { notify, sessionIdentity } from './sql.js'

/** How long a notification may take, in milliseconds. */
const NOTIFICATION_TIMEOUT_MS = 2000

/**
 * Refuses a connection that does not keep its session, as behind a pooler that gives every transaction another one.
 *
 * Two process ids of the server for one connection, or one for two connections, show it. Where the pooler has sessions
 * to spare they may not; then the idle connection has to receive the notification of another one, which takes a session.
 */
export async function assertDedicatedSession(session: Session, open: () => Promise<Session>): Promise<void> {
  const other = await open().catch((error) => {
    // What keeps a connection away says nothing of the pooler, and is an error of its own.
    error.message = `A second connection, which is to show that the pooler keeps sessions, cannot be had: ${error.message}`
    throw error
  })
  try {
    const backendOf = async (of: Session) => (await of.query<{ backend: number }>(sessionIdentity)).backend
    const ids = [await backendOf(other), await backendOf(session)]
    if (ids[0] === session.backend || ids[1] !== session.backend || ids[0] !== other.backend)
      throw refusal(session, 'its statements are run by changing processes of the server')
    if (!(await receivesNotification(session, other))) throw refusal(session, 'it hears no notifications')
  } finally {
    await other.close()
  }
}

async function receivesNotification(session: Session, other: Session): Promise<boolean> {
  const channel = `reconcile_lock_${randomUUID()}`
  const heard = new Promise<true>((resolve) => {
    session.onNotification((name) => name === channel && resolve(true))
  })
  await session.query(`LISTEN "${channel}"`)
  await other.query(notify(channel))
  // The connection keeps the process running.
  const hasHeard = await Promise.race([heard, delay(NOTIFICATION_TIMEOUT_MS, false, { ref: false })])
  await session.query(`UNLISTEN "${channel}"`)
  return hasHeard
}

function refusal(session: Session, why: string) {
  const message =
    `The connection goes through a pooler that keeps no session for it: ${why}. A lock needs a session of its own: ` +
    'connect to PostgreSQL itself, or to a pool in session mode'
  return lockError('E_LOCK_POOLER', session.place, message)
}
