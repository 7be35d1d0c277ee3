import { randomBytes, randomUUID } from 'node:crypto'
import { delay } from '../shared/clock.js'
import { lockError } from '../shared/errors.js'
import { orSilence, responseTimer } from './response-timer.js'
import { END_CHECK_MS, type Session } from './session.js'
import { notify, sessionIdentity, tryLock, unlock } from './sql.js'

/** How long a notification, and the end of a client, may take, in milliseconds. */
const PROOF_TIMEOUT_MS = 2000

/**
 * Refuses a connection that does not keep its session, such as one through a pooler in transaction mode.
 *
 * Two server process ids on one connection, or one on two connections, prove that. A pooler with spare sessions may
 * show neither, so the idle connection must also receive a notification from another one, which needs a session.
 *
 * A pooler that keeps sessions must also unlock the keys of a client that leaves, as one that crashes does.
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
      throw refusal(session, 'the statements of a connection run in different processes of the server')
    if (!(await receivesNotification(session, other)))
      throw refusal(session, 'a connection does not receive notifications')
    if (!(await unlocksKeys(session, other)))
      throw refusal(session, 'it does not unlock the keys of a client that has left')
  } finally {
    await other.close()
  }
}

async function receivesNotification(session: Session, other: Session): Promise<boolean> {
  const channel = `reconcile_lock_${randomUUID()}`
  let stop = () => {}
  const received = new Promise<boolean>((resolve) => {
    stop = session.onNotification((name) => name === channel && resolve(true))
  })
  try {
    await session.query(`LISTEN "${channel}"`)
    await other.query(notify(channel))
    const hasReceived = await orSilence(received, PROOF_TIMEOUT_MS, () => false)
    await session.query(`UNLISTEN "${channel}"`)
    return hasReceived
  } finally {
    stop()
  }
}

async function unlocksKeys(session: Session, other: Session): Promise<boolean> {
  const key = randomBytes(8).readBigInt64BE()
  await other.query(tryLock, [key])
  await other.discard()
  let isLate = false
  const stopTimer = responseTimer(PROOF_TIMEOUT_MS, () => {
    isLate = true
  })
  try {
    while (!(await session.query<boolean>(tryLock, [key]))) {
      if (isLate) return false
      await delay(END_CHECK_MS)
    }
    return await session.query<boolean>(unlock, [key])
  } finally {
    stopTimer()
  }
}

function refusal(session: Session, why: string) {
  const message =
    `The pooler cannot keep locks: ${why}. Connect to PostgreSQL itself, or to a pool in session mode ` +
    'that resets a session before it lends it again'
  return lockError('E_LOCK_POOLER', session.serverUrl, message)
}
