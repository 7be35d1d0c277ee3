import { delay, monotonic } from './clock.js'
import { halves } from './key.js'
import type { Session } from './session.js'
import { terminate } from './sql.js'

/** The server signals a session and does not wait for its end: how often it is looked for, and how long, in milliseconds. */
const PERIOD = 5
const PATIENCE = 5000

/** Ends the session that holds a lock, and comes back when it holds it no more. */
export async function endHolder(session: Session, key: bigint, backend: number): Promise<void> {
  const end = monotonic() + PATIENCE
  while ((await session.ask<boolean>(terminate, [...halves(key), backend])) && monotonic() < end)
    await delay(PERIOD)
}
