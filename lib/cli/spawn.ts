import { type ChildProcess, type StdioOptions, spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import { delimiter, join } from 'node:path'
import { getSystemErrorMap } from 'node:util'
import { clearTimeout, delay, MAX_TIMER_MS, setTimeout } from '../shared/clock.js'
import { exitCodes } from './exit-codes.js'
import { printError, printErrorLater } from './output.js'
import { isAssignment } from './secrets.js'
import type { Signals } from './signals.js'
import { areZombies, hasTerminal, isAlreadyDelivered } from './terminal.js'

/** An exit code, or the signal that ended the command. */
export type ExitStatus = number | NodeJS.Signals

/** Signals for the command alone: the default action, as of the programs that a script runs, is to end. */
const OF_COMMAND = new Set<NodeJS.Signals>(['SIGUSR1', 'SIGUSR2'])

/** The pauses between two checks of a process group that should end, in milliseconds; they double. */
const FIRST_CHECK_MS = 20
const MAX_CHECK_MS = 500

interface RunOptions {
  /** The signals to forward to the command. */
  signals: Signals
  /** Aborted when the lock is lost; the command should then end. */
  loss: AbortSignal
  /** How long the command may then take to end, in milliseconds. */
  killAfter: number
  /** The descriptor of the lock file, which the command inherits. */
  descriptor: number | undefined
}

/** Runs a command to its end. */
export function runCommand(
  command: string,
  args: string[],
  { signals, loss, killAfter, descriptor }: RunOptions,
): Promise<ExitStatus> {
  // Without a terminal the command gets its own session, so that signals reach its descendants.
  const detached = !hasTerminal()
  return new Promise((resolve) => {
    let child: ChildProcess
    let killer: NodeJS.Timeout | undefined
    const send = (signal: NodeJS.Signals) => {
      // The kernel does not stop a process group of its own session by SIGTSTP.
      if (detached) {
        const target = OF_COMMAND.has(signal) ? child.pid : groupOf(child.pid)
        kill(target, signal === 'SIGTSTP' ? 'SIGSTOP' : signal)
      } else child.kill(signal)
    }
    const onLoss = () => {
      send('SIGTERM')
      reportLoss(loss.reason, child.pid)
      if (killAfter === Number.POSITIVE_INFINITY) return
      killer = setTimeout(
        () => {
          send('SIGKILL')
          printErrorLater(`reconcile-lock: process ${child.pid} has not ended; sending SIGKILL`)
        },
        Math.min(killAfter, MAX_TIMER_MS),
      )
    }
    const onEnd = async (end: ExitStatus) => {
      // After a signal, the processes that the command has started may still work under the lock.
      const canLeaveWork = () => loss.aborted || typeof end === 'string'
      for (let pause = FIRST_CHECK_MS; canLeaveWork() && detached && isRunning(child.pid); pause *= 2) {
        await delay(Math.min(pause, MAX_CHECK_MS))
        if (pause < MAX_CHECK_MS && 2 * pause >= MAX_CHECK_MS)
          printErrorLater(`reconcile-lock: the command has ended; waiting for its process group ${child.pid}`)
      }
      loss.removeEventListener('abort', onLoss)
      clearTimeout(killer)
      resolve(end)
    }
    const onSpawnFailure = (error: unknown) =>
      onEnd(reportSpawnFailure(command, error as NodeJS.ErrnoException))
    try {
      child = spawn(command, args, { stdio: streams(descriptor), detached })
    } catch (error) {
      // Some system errors are thrown, others are emitted.
      void onSpawnFailure(error)
      return
    }
    child.on('error', (error) => {
      if (child.pid === undefined) return void onSpawnFailure(error)
      // The command runs as another user now: it continues, and so does the lock.
      printErrorLater(`reconcile-lock: cannot send a signal to process ${child.pid}: ${textOf(error)}`)
    })
    child.once('exit', (code, signal) => void onEnd(signal ?? code ?? exitCodes.ok))
    signals.listen((signal) => {
      if (!isAlreadyDelivered(signal, child.pid)) send(signal)
    })
    loss.addEventListener('abort', onLoss)
  })
}

/** How kill(2) names a process group, whose id is the pid of its first process. */
const groupOf = (pid: number | undefined): number | undefined => pid && -pid

/** @returns whether a process with that pid, or of that group, exists; it may be of another user */
function kill(pid: number | undefined, signal: NodeJS.Signals | 0): boolean {
  if (pid === undefined) return false
  try {
    return process.kill(pid, signal)
  } catch (error) {
    const failure = error as NodeJS.ErrnoException
    const what = pid < 0 ? `process group ${-pid}` : `process ${pid}`
    if (failure.code !== 'ESRCH' && signal !== 0)
      printErrorLater(`reconcile-lock: cannot send ${signal} to ${what}: ${textOf(failure)}`)
    return failure.code === 'EPERM'
  }
}

/**
 * Whether a process of a group runs. The second check finds a process that another one has started just before its end.
 */
const isRunning = (group: number | undefined): boolean =>
  kill(groupOf(group), 0) && !(areZombies(group) && areZombies(group))

/**
 * The streams of this process. The descriptor of a lock file keeps its number: scripts redirect lower ones, such as 3,
 * and would close it.
 */
function streams(descriptor: number | undefined): StdioOptions {
  if (descriptor === undefined) return 'inherit'
  const all = Array.from({ length: descriptor }, (_, number) => (number < 3 ? 'inherit' : 'ignore'))
  return [...all, descriptor] as StdioOptions
}

function reportLoss({ message }: Error, pid: number | undefined): void {
  printErrorLater(`reconcile-lock: ${message}`)
  printErrorLater(`reconcile-lock: another process may hold the lock now; sending SIGTERM to process ${pid}`)
}

/** The search path without a PATH: `execvp(3)` of glibc. */
const DEFAULT_PATH = '/bin:/usr/bin'

function reportSpawnFailure(command: string, error: NodeJS.ErrnoException): number {
  const isMissing = error.code === 'ENOENT'
  const directories = command.includes('/') ? [''] : (process.env.PATH ?? DEFAULT_PATH).split(delimiter)
  // Windows has no such interpreters, and does not start a file without an extension, such as the script `npm`.
  const canLackInterpreter = isMissing && process.platform !== 'win32'
  const hasFile = canLackInterpreter && directories.some((each) => existsSync(join(each, command)))
  const notFound = isAssignment(command)
    ? 'command not found; write env before NAME=VALUE'
    : 'command not found'
  const missing = hasFile
    ? 'the interpreter in its first line, or the loader of a binary, was not found'
    : notFound
  // A mistyped command line may have a password here, in a URL or as the value of a variable.
  const shown = command.includes('://') || isAssignment(command) ? 'the command' : command
  printError(`reconcile-lock: ${shown}: ${isMissing ? missing : textOf(error)}`)
  return isMissing ? exitCodes.notFound : exitCodes.notExecutable
}

/** The text of the system without the name of the call. The error number is positive in Bun. */
function textOf({ errno = 0, message }: NodeJS.ErrnoException): string {
  return getSystemErrorMap().get(-Math.abs(errno))?.[1] ?? message
}
