import { stat } from 'node:fs/promises'
import { resolve, sep } from 'node:path'
import type { AcquireOptions, Lock, LockError, LockOptions, LockStatus } from '../../index.js'
import type { PostgresLock, PostgresLockStatus } from '../../postgres.js'
import { slotPaths } from '../shared/slots.js'

export type AnyLock = Lock | PostgresLock
export type AnyStatus = LockStatus | PostgresLockStatus

/** The options of a command line that name a lock. */
export interface Names {
  file?: string
  /** A lock file, or a directory for its default lock file. */
  place?: string
  legacy?: boolean
  durable?: boolean
  shared?: boolean
  mode?: number
  postgres?: string
  lockName?: string
  /** How many processes can hold the lock file at once. */
  slots?: number
}

/** The lock that a command line names, on a file or on PostgreSQL. */
export interface Target {
  acquire(options: AcquireOptions): Promise<AnyLock>
  inspect(): Promise<AnyStatus>
  /** The status of a lock file, such as that of a slot; `undefined` on PostgreSQL. */
  inspectFile(path: string): Promise<LockStatus | undefined>
  break(force: boolean): Promise<boolean>
  path(): Promise<string>
  close(): Promise<void>
}

// Loaded on demand: most commands need only one of the two.
const loadFileLocks = () => require('../index.js') as typeof import('../../index.js')
export const loadPostgres = () => require('../postgres/index.js') as typeof import('../../postgres.js')

function onFile({ file, legacy, durable, shared, mode, place }: Names): Target {
  const { acquireLock, breakLock, inspectLock, resolveLockPath } = loadFileLocks()
  return {
    acquire: (options) => {
      const acquire = (at: LockOptions) => acquireLock({ legacy, durable, shared, mode, ...options, ...at })
      return place === undefined ? acquire({ file }) : acquireAt(place, acquire)
    },
    inspect: () => inspectLock({ file, mode }),
    inspectFile: (path) => inspectLock({ file: path, mode }),
    break: (force) => breakLock({ file, mode, force }),
    path: async () => (file === undefined ? resolveLockPath() : resolve(file)),
    close: async () => {},
  }
}

/** Tries the place as a file first, because `stat` on a disk that hangs would have no time limit. */
async function acquireAt(place: string, acquire: (at: LockOptions) => Promise<Lock>): Promise<Lock> {
  if (namesDirectory(place)) return acquire({ cwd: place })
  try {
    return await acquire({ file: place })
  } catch (error) {
    const { code } = error as LockError
    const mayBeDirectory = code === 'E_LOCK_NOT_A_FILE' || code === 'E_LOCK_SYMLINK'
    if (!mayBeDirectory || !(await isDirectory(place))) throw error
    return acquire({ cwd: place })
  }
}

export const namesDirectory = (place: string): boolean =>
  ['', '.', '..'].includes(place.split(sep).join('/').split('/').at(-1) ?? '')

const isDirectory = (place: string): Promise<boolean> =>
  stat(place).then(
    (stats) => stats.isDirectory(),
    () => false,
  )

function onPostgres(connectionString: string, { lockName: name, shared }: Names): Target {
  const locks = loadPostgres().postgresLocks({ connectionString })
  return {
    acquire: ({ slots: _, ...options }) => locks.acquireLock({ name, shared, ...options }),
    inspect: () => locks.inspectLock({ name }),
    inspectFile: async () => undefined,
    break: (force) => locks.breakLock({ name, force }),
    path: async () => (await locks.inspectLock({ name })).path,
    close: () => locks.close(),
  }
}

/** As {@link withTarget}, with the lock of each slot. */
export const withSlots = <T>(names: Names, work: (slots: Target[]) => Promise<T>): Promise<T> =>
  withTarget(names, async (lock) => {
    const { slots = 1, place: _, ...others } = names
    if (slots === 1) return work([lock])
    return work(slotPaths(await lock.path(), slots).map((file) => onFile({ ...others, file })))
  })

/** Calls a function with a lock, then closes connections that would keep this process running. */
export async function withTarget<T>(names: Names, work: (lock: Target) => Promise<T>): Promise<T> {
  const { postgres } = names
  const lock = postgres === undefined ? onFile(names) : onPostgres(postgres, names)
  try {
    return await work(lock)
  } finally {
    await lock.close()
  }
}
