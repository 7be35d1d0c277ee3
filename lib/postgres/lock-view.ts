// The state of a lock as a query returns it, and its description for errors and statuses.
import type { PostgresHolder, PostgresReader } from '../../postgres.js'
import { thisHost } from '../shared/this-host.js'
import { codeOf } from './errors.js'

/** A row: the holder, the server process of its session, and the start of that process. */
export type Row = PostgresHolder & { backend: number; started: string | null; token: string }

/** The state of a lock, read in one query. */
export interface LockView {
  holder: Row | null
  isReleased: boolean | null
  /** The session that owns the advisory lock; 0 for a prepared transaction. */
  backend: number | null
  /** The sessions that hold it in shared mode. */
  readers: ReaderRow[]
}

/** A session that holds a lock in shared mode. The server hides those of other roles from some. */
interface ReaderRow {
  backend: number
  user: string | null
  application: string | null
}

/** A string in a row may have any length. */
const MAX_SHOWN_LENGTH = 255

/** The public part of a holder. Any role that may write to the table can have written it. */
export function publicHolder({ backend: _, started: __, token: ___, ...holder }: Row): PostgresHolder {
  return { ...holder, host: printable(holder.host ?? ''), application: printable(holder.application) }
}

/** Escapes characters that a terminal interprets, and cuts to the maximum length of a host name. */
function printable(text: string): string {
  const shown = text.replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu, (character) => {
    const code = character.codePointAt(0) ?? 0
    return `\\u{${code.toString(16)}}`
  })
  return shown.length > MAX_SHOWN_LENGTH ? `${shown.slice(0, MAX_SHOWN_LENGTH)}…` : shown
}

/** The holder, if the session that has the lock has written it. */
export function holderOf({ holder, isReleased, backend }: LockView): PostgresHolder | undefined {
  return holder && !isReleased && holder.backend === backend ? publicHolder(holder) : undefined
}

/** The reason if the session that has the lock has not written its row. */
const describeSession = (backend: number | null | undefined): string =>
  `${backend ? `process ${backend} of the server` : 'a session of the database'} holds it, and no row of the table names its holder`

const PREPARED = 'a prepared transaction holds it: end it by COMMIT PREPARED or ROLLBACK PREPARED'

export const describeUnknown = (view: LockView | undefined): string =>
  view?.backend === 0 ? PREPARED : describeSession(view?.backend)

/** The holder, or why it is unknown, for a contention error. */
export function contentionDetails(
  view: LockView | undefined,
): { holder: PostgresHolder } | { reason: string } {
  const holder = view && holderOf(view)
  if (holder) return { holder }
  return { reason: view && view.readers.length > 0 ? describeReaders(view.readers) : describeUnknown(view) }
}

/** How many readers a reason names. */
const MAX_NAMED = 8

/** The sessions that hold a lock in shared mode, in one sentence. */
export function describeReaders(readers: ReaderRow[]): string {
  const [first] = readers
  if (first && readers.length === 1) return `${describeReader(first)} holds it in shared mode`
  const named = readers.slice(0, MAX_NAMED).map(describeReader).join(', ')
  const more = readers.length > MAX_NAMED ? ', …' : ''
  return `${readers.length} sessions hold it in shared mode: ${named}${more}`
}

/** The way to end the readers, for an operator. */
export function howToEnd(readers: ReaderRow[]): string {
  const ways = [
    readers.some(({ backend }) => backend > 0) && 'their processes with pg_terminate_backend',
    readers.some(({ backend }) => backend === 0) &&
      'prepared transactions by COMMIT PREPARED or ROLLBACK PREPARED',
  ]
  return `end ${ways.filter(Boolean).join(', and ')}`
}

function describeReader({ backend, application }: ReaderRow): string {
  if (backend === 0) return 'a prepared transaction'
  return `process ${backend} of the server${application ? ` (${printable(application)})` : ''}`
}

/** The public part of a session that holds a lock in shared mode. */
export const publicReader = ({ backend, user, application }: ReaderRow): PostgresReader => ({
  backend,
  ...(user && { user: printable(user) }),
  ...(application && { application: printable(application) }),
})

/** Whether the holder was a process of this machine that has ended; the server may detect that later. */
export function isLocalProcessGone(holder: PostgresHolder | undefined): boolean {
  if (holder?.host !== thisHost()) return false
  try {
    process.kill(holder.pid, 0)
    return false
  } catch (error) {
    return codeOf(error) === 'ESRCH'
  }
}

/** Why the holder is gone, in one sentence. */
export function describeStaleHolder({ pid, host }: PostgresHolder): string {
  const where = host === thisHost() ? '' : ` on ${host}`
  return `process ${pid}${where} ended without releasing, or lost its connection`
}
