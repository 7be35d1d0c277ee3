// One interface to locks on files and on PostgreSQL, so that one suite tests both.
import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import { rmSync } from 'node:fs'
import { join } from 'node:path'
import type { TestContext } from 'node:test'
import { fileURLToPath } from 'node:url'
import * as files from 'reconcile-lock'
import { postgresLocks } from 'reconcile-lock/postgres'
import { nextMessage } from '../support/child.mjs'

/** Options of a call on either kind of lock. */
export interface Asked {
  name?: string | undefined
  message?: string | undefined
  shared?: boolean | undefined
  timeout?: number | undefined
  signal?: AbortSignal | undefined
  onWait?: ((status: files.WaitStatus) => void) | undefined
  force?: boolean | undefined
}

export type AnyLock = Pick<
  files.Lock,
  'path' | 'holder' | 'takenOver' | 'isHeld' | 'release' | typeof Symbol.asyncDispose
>

export interface Backend {
  acquireLock(asked: Asked): Promise<AnyLock>
  releaseLock(asked: Asked): Promise<void>
  withLock<T>(fn: (lock: AnyLock) => T | Promise<T>, asked: Asked): Promise<T>
  withLocks<T>(fn: (locks: AnyLock[]) => T | Promise<T>, names: string[], asked?: Asked): Promise<T>
  inspectLock(asked: Asked): Promise<Omit<files.LockStatus, 'readers'>>
  breakLock(asked: Asked): Promise<boolean>
}

/** @param place a directory, or the URL of a database */
export function backendFor(kind: string, place: string): Backend {
  if (kind === 'postgres') {
    const locks = postgresLocks({ connectionString: place })
    return { ...locks, withLocks: locks.withLock }
  }
  const here = <T extends Asked>({ name, ...rest }: T) => ({ cwd: place, file: name, ...rest })
  return {
    acquireLock: (asked) => files.acquireLock(here(asked)),
    releaseLock: (asked) => files.releaseLock(here(asked)),
    withLock: (fn, asked) => files.withLock(fn, here(asked)),
    withLocks: (fn, names, asked) =>
      files.withLock(
        fn,
        names.map((file) => ({ file })),
        { cwd: place, ...asked },
      ),
    inspectLock: (asked) => files.inspectLock(here(asked)),
    breakLock: (asked) => files.breakLock(here(asked)),
  }
}

export const close = async (backend: Backend): Promise<void> =>
  (backend as Backend & { close?(): Promise<void> }).close?.()

/** Removes a lock from its holder, as an administrator could. */
export function taker(kind: string, place: string, sql: (text: string) => Promise<unknown>) {
  return async (name: string) => {
    if (kind === 'file') return rmSync(join(place, name))
    await sql(`SELECT pg_terminate_backend(backend) FROM reconcile_lock WHERE name = '${name}'`)
  }
}

export interface Answer {
  ok: boolean
  message?: string
  code?: string
  holder?: files.Holder
}

const program = fileURLToPath(new URL('backend-process.mjs', import.meta.url))

/** Another process that acquires and releases on command. */
export class BackendProcess {
  readonly child: ChildProcess

  constructor(t: TestContext, kind: string, place: string) {
    this.child = fork(program, [kind, place])
    t.after(
      () => this.child.exitCode === null && this.child.signalCode === null && this.child.kill('SIGKILL'),
    )
  }

  async asks(what: string, asked: Asked): Promise<Answer> {
    const answer = nextMessage<Answer>(this.child)
    this.child.send({ do: what, asked })
    return answer
  }

  async ends(how: string): Promise<void> {
    const exit = once(this.child, 'exit')
    if (how.startsWith('SIG')) process.kill(this.child.pid ?? 0, how)
    else this.child.send({ do: how, asked: {} })
    await exit
  }
}
