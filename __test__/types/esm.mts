// Valid code of a TypeScript program that is an ES module; compiled, not run.
import {
  type AcquireOptions,
  acquireLock,
  acquireLockSync,
  type BreakOptions,
  breakLock,
  type Holder,
  inspectLock,
  inspectLockSync,
  type Lock,
  LockError,
  type LockErrorCode,
  type LockOptions,
  type LockStatus,
  releaseLock,
  releaseLockSync,
  resolveLockPath,
  type WaitStatus,
  withLock,
} from 'reconcile-lock'

export { acquireLock, releaseLock, resolveLockPath } from 'reconcile-lock'

export async function everyCall(signal: AbortSignal): Promise<void> {
  const options: AcquireOptions = { cwd: '.', file: 'f', message: 'm', timeout: 1, signal }
  const target: LockOptions = { cwd: '.', file: 'f', message: 'm', legacy: false, durable: true }
  const force: BreakOptions = { ...target, force: true }
  const lock: Lock = await acquireLock(options)
  const holder: Holder = lock.holder
  const numbers: number[] = [holder.pid, holder.createdAt]
  const optional: [string | undefined, number | undefined] = [holder.host, holder.thread]
  const from: { holder?: Holder; reason: string } | undefined = lock.takenOver
  const held: boolean = lock.isHeld()
  await lock.release()
  lock.releaseSync()
  await acquireLock('.')
  await acquireLock()
  acquireLockSync('.').releaseSync()
  acquireLockSync(options)[Symbol.dispose]()
  await releaseLock('.')
  await releaseLock(target)
  await releaseLock(options)
  await releaseLock(await acquireLock(new URL('file:///a')))
  await breakLock(await acquireLock({ cwd: new URL('file:///a'), file: new URL('file:///a/b') }))
  const { release, releaseSync } = await acquireLock()
  await release().finally(releaseSync)
  const paths: string[] = [
    resolveLockPath(options),
    resolveLockPath(target),
    resolveLockPath(new URL('file:///a')),
  ]
  releaseLockSync()
  const n: number = await withLock(async (inside) => inside.path.length, options)
  const both: [Lock, Lock] = await withLock((locks) => locks, [{ file: 'f' }, '.'], { timeout: 1 })
  // @ts-expect-error The timeout is for all locks.
  await withLock(() => 1, [{ timeout: 1 }])
  const s: string = await withLock((inside) => inside.path, '.')
  const status: LockStatus = await inspectLock(target)
  const state: 'free' | 'held' | 'stale' = inspectLockSync('.').state
  const removed: boolean = await breakLock(force)
  console.log(
    numbers,
    optional,
    from,
    held,
    n,
    both,
    s,
    status.reason,
    state,
    removed,
    resolveLockPath('.'),
    paths,
  )
  await using scoped = await acquireLock()
  using inner = acquireLockSync({ file: 'g' })
  console.log(scoped.path, inner.path)
}

export function whatWentWrong(error: unknown): string {
  if (!(error instanceof LockError)) return 'something else'
  const recoverable: boolean = error.recoverable
  const code: LockErrorCode = error.code
  return `${error.name} ${code} ${error.path} ${error.holder?.pid} ${recoverable} ${error.message}`
}

export const asReported = (code: LockErrorCode, { path, holder, reason }: WaitStatus) =>
  new LockError('busy', { code, path, recoverable: true, holder, reason })

// @ts-expect-error an unknown option
acquireLock({ retries: 3 }).catch(whatWentWrong)
// @ts-expect-error a timeout is a number
acquireLock({ timeout: '1s' }).catch(whatWentWrong)
// @ts-expect-error legacy is a boolean
acquireLock({ legacy: 'no' }).catch(whatWentWrong)
// @ts-expect-error shared is a boolean
acquireLock({ shared: 'yes' }).catch(whatWentWrong)
// @ts-expect-error durable is a boolean
acquireLock({ durable: 1 }).catch(whatWentWrong)
// @ts-expect-error only breakLock forces
releaseLock({ force: true }).catch(whatWentWrong)
// @ts-expect-error a second argument
acquireLock('.', { timeout: 5 }).catch(whatWentWrong)
// @ts-expect-error an unknown code
export const isUnknown = (error: LockError) => error.code === 'E_LOCK_UNKNOWN'
