import type { LockError, TakenOver } from '../../index.js'
import { monotonic, now } from '../shared/clock.js'
import { DESCRIPTOR, type Inheritable } from '../shared/inherit.js'
import { exitCodes } from './exit-codes.js'
import type { RunCommand } from './options.js'
import { duration, errorsPrinted, formatProcess, printError, printErrorLater } from './output.js'
import { exitBySignal, Signals } from './signals.js'
import { type ExitStatus, runCommand } from './spawn.js'
import { type AnyLock, type Target, withTarget } from './target.js'
import { leaveTerminal } from './terminal.js'
import { canRewriteLine, WaitingLine } from './waiting-line.js'

/** The signals that do not end a wait. */
const HARMLESS = new Set<NodeJS.Signals>(['SIGWINCH', 'SIGTSTP', 'SIGCONT'])

export async function run(options: RunCommand): Promise<void> {
  const signals = new Signals()
  const line = new WaitingLine()
  let end: ExitStatus
  try {
    end = await withTarget(options, async (target) => {
      const lock = await acquire(target, options, signals, line)
      return typeof lock === 'object' ? runUnder(lock, options, signals) : lock
    })
  } finally {
    signals.end()
    leaveTerminal()
  }
  if (typeof end === 'string') exitBySignal(end)
  // Otherwise the pending inspection would keep this process running.
  else if (line.isInspecting) process.exit(end)
  else process.exitCode = end
}

async function acquire(
  target: Target,
  { message, timeout, slots = 1, shared, verbose, conflictExitCode = exitCodes.contention }: RunCommand,
  signals: Signals,
  line: WaitingLine,
): Promise<AnyLock | ExitStatus> {
  const abort = new AbortController()
  const started = monotonic()
  signals.listen((signal) => {
    if (signal === 'SIGTSTP') line.remove()
    if (!HARMLESS.has(signal)) abort.abort(signal)
  })
  try {
    const lock = await target.acquire({
      message,
      timeout,
      slots,
      signal: abort.signal,
      onWait: canRewriteLine ? (status) => line.show(target, status) : undefined,
    })
    line.remove()
    if (lock.takenOver) printError(`reconcile-lock: ${formatTakeOver(lock.path, lock.takenOver, shared)}`)
    if (verbose) printError(`reconcile-lock: acquired ${lock.path} after ${duration(monotonic() - started)}`)
    return lock
  } catch (error) {
    line.remove()
    if (abort.signal.aborted) return abort.signal.reason
    const { code, message } = error as LockError
    if (code !== 'E_LOCK_CONTENTION') throw error
    // A program may compare the message, so it is on a separate line.
    printError(message)
    printError(`reconcile-lock: ${formatRefusal(error as LockError)}`)
    return conflictExitCode
  }
}

function formatRefusal({ path, holder, reason }: LockError): string {
  const by = holder ? ` by ${formatProcess(holder)} for ${duration(now() - holder.createdAt)}` : ''
  return `${path} is held${by}${reason === undefined ? '' : `: ${reason}`}`
}

/** A reader leaves the stale lock to its next owner. */
function formatTakeOver(path: string, { holder, reason }: TakenOver, shared: boolean): string {
  const what = `${shared ? 'found' : 'took over'} the stale lock ${path}`
  if (!holder) return `${what}: ${reason}; the previous holder is unknown`
  const age = duration(now() - holder.createdAt)
  return `${what} of ${formatProcess(holder)}, acquired ${age} ago: ${reason}`
}

async function runUnder(
  lock: AnyLock & Inheritable,
  { command: [command = '', ...args], close, killAfter }: RunCommand,
  signals: Signals,
): Promise<ExitStatus> {
  const { signal: loss } = lock
  const token = 'token' in lock ? lock.token : undefined
  // A token from an outer `run` belongs to another lock.
  delete process.env.RECONCILE_LOCK_TOKEN
  if (token !== undefined) process.env.RECONCILE_LOCK_TOKEN = String(token)
  const descriptor = close ? undefined : lock[DESCRIPTOR]?.()
  const end = await runCommand(command, args, { signals, loss, killAfter, descriptor })
  const isLossReported = loss.aborted
  try {
    await lock.release()
  } catch (error) {
    if (!isLossReported) printErrorLater(`reconcile-lock: ${(error as Error).message}`)
    return exitCodes.ioError
  } finally {
    // After the release, because the reader of standard error may be stopped.
    await errorsPrinted()
  }
  // The file may be back.
  return isLossReported ? exitCodes.ioError : end
}
