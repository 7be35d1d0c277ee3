import { randomUUID } from 'node:crypto'
import { delay } from '../shared/clock.js'
import { lockError } from '../shared/errors.js'
import type { Session } from './session.js'
import { notify, sessionIdentity } from './sql.js'

/** How long a notification may take, in milliseconds. */
const NOTIFICATION_TIMEOUT_MS = 2000

/**
 * Refuses a connection that does not keep its session, such as one through a pooler in transaction mode.
 *
 * Two server process ids on one connection, or one on two connections, prove that. A pooler with spare sessions may
 * show neither, so the idle connection must also receive a notification from another one, which needs a session.
 */
export async function assertDedicatedSession(session: Session, open: () => Promise<Session>): Promise<void> {
  const other = await open().catch((error) => {
    // A failed connection proves nothing about the pooler, so it keeps its own error.
    error.message = `The connection that checks the pooler cannot be opened: ${error.message}`
    throw error
  })
  try {
    const backendOf = async (of: Session) => (await of.query<{ backend: number }>(sessionIdentity)).backend
    const ids = [await backendOf(other), await backendOf(session)]
    if (ids[0] === session.backend || ids[1] !== session.backend || ids[0] !== other.backend)
      throw refusal(session, 'its statements run in different processes of the server')
    if (!(await receivesNotification(session, other)))
      throw refusal(session, 'it does not receive notifications')
  } finally {
    await other.close()
  }
}

async function receivesNotification(session: Session, other: Session): Promise<boolean> {
  const channel = `reconcile_lock_${randomUUID()}`
  let stop = () => {}
  const received = new Promise<true>((resolve) => {
    stop = session.onNotification((name) => name === channel && resolve(true))
  })
  try {
    await session.query(`LISTEN "${channel}"`)
    await other.query(notify(channel))
    // The timer need not keep the process running: the connection does.
    const hasReceived = await Promise.race([received, delay(NOTIFICATION_TIMEOUT_MS, false, { ref: false })])
    await session.query(`UNLISTEN "${channel}"`)
    return hasReceived
  } finally {
    stop()
  }
}

function refusal(session: Session, why: string) {
  const message =
    `The connection goes through a pooler that keeps no session for it: ${why}. A lock needs a session of its own: ` +
    'connect to PostgreSQL itself, or to a pool in session mode'
  return lockError('E_LOCK_POOLER', session.place, message)
}
