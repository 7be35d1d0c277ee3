import { type ChildProcess, type StdioOptions, spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import { getSystemErrorMap } from 'node:util'
import { clearTimeout, delay, MAX_TIMER_MS, setTimeout } from '../shared/clock.js'
import { exitCodes } from './exit-codes.js'
import { say } from './output.js'
import type { Signals } from './signals.js'
import { hasTerminal, isAlreadyDelivered } from './terminal.js'

/** An exit code, or the signal to die of. */
export type ExitStatus = number | NodeJS.Signals

/** How often a process group that is to end is checked, in milliseconds. */
const GROUP_CHECK_MS = 20

interface RunOptions {
  /** What the command gets. */
  signals: Signals
  /** Is aborted when the lock is lost, after which the command should not go on. */
  loss: AbortSignal | undefined
  /** How long the command may then take to end, in milliseconds. */
  killAfter: number
  /** What the command inherits. */
  descriptor: number | undefined
}

/** Runs a command to its end. */
export function runCommand(
  command: string,
  args: string[],
  { signals, loss, killAfter, descriptor }: RunOptions,
): Promise<ExitStatus> {
  // Where no terminal has to reach it, it gets a process group of its own, so that what it starts ends with it.
  const detached = loss !== undefined && !hasTerminal()
  return new Promise((resolve) => {
    let child: ChildProcess
    let killer: NodeJS.Timeout | undefined
    const send = (signal: NodeJS.Signals) => {
      if (detached) signalGroup(child.pid, signal)
      else child.kill(signal)
    }
    const onLoss = () => {
      reportLoss(loss?.reason, child.pid)
      send('SIGTERM')
      if (killAfter === Number.POSITIVE_INFINITY) return
      killer = setTimeout(
        () => {
          say(`reconcile-lock: process ${child.pid} has not ended; sending SIGKILL`)
          send('SIGKILL')
        },
        Math.min(killAfter, MAX_TIMER_MS),
      )
    }
    const onEnd = async (end: ExitStatus) => {
      loss?.removeEventListener('abort', onLoss)
      while (killer && detached && signalGroup(child.pid, 0)) await delay(GROUP_CHECK_MS)
      clearTimeout(killer)
      resolve(end)
    }
    const onSpawnFailure = (error: unknown) =>
      onEnd(reportSpawnFailure(command, error as NodeJS.ErrnoException))
    try {
      child = spawn(command, args, { stdio: streams(descriptor), detached })
    } catch (error) {
      // Some refusals of the system are thrown, others arrive as an event.
      void onSpawnFailure(error)
      return
    }
    child.on('error', (error) => {
      if (child.pid === undefined) return void onSpawnFailure(error)
      // The command, of another user now, lives on, and so does the lock.
      say(`reconcile-lock: cannot send a signal to process ${child.pid}: ${textOf(error)}`)
    })
    child.once('exit', (code, signal) => void onEnd(signal ?? code ?? exitCodes.ok))
    signals.listen((signal) => {
      if (!isAlreadyDelivered(signal, child.pid)) send(signal)
    })
    loss?.addEventListener('abort', onLoss)
  })
}

/**
 * @param pid the group's, which is that of its first process
 * @returns whether a process of that group exists and got the signal
 */
function signalGroup(pid: number | undefined, signal: NodeJS.Signals | 0): boolean {
  if (pid === undefined) return false
  try {
    return process.kill(-pid, signal)
  } catch (error) {
    const failure = error as NodeJS.ErrnoException
    if (failure.code !== 'ESRCH' && signal !== 0)
      say(`reconcile-lock: cannot send ${signal} to process group ${pid}: ${textOf(failure)}`)
    return false
  }
}

/**
 * Those of this process. The descriptor of a lock file keeps its number: scripts redirect lower ones, such as 3, and
 * would close it.
 */
function streams(descriptor: number | undefined): StdioOptions {
  if (descriptor === undefined) return 'inherit'
  const all = Array.from({ length: descriptor }, (_, number) => (number < 3 ? 'inherit' : 'ignore'))
  return [...all, descriptor] as StdioOptions
}

function reportLoss({ message }: Error, pid: number | undefined): void {
  say(`reconcile-lock: ${message}`)
  say(`reconcile-lock: another process may hold the lock now; sending SIGTERM to process ${pid}`)
}

function reportSpawnFailure(command: string, error: NodeJS.ErrnoException): number {
  const isMissing = error.code === 'ENOENT'
  const hasFile = isMissing && command.includes('/') && existsSync(command)
  const missing = hasFile ? 'the interpreter in its first line was not found' : 'command not found'
  // A mistyped line may have a URL with a password here.
  const shown = command.includes('://') ? 'the command' : command
  say(`reconcile-lock: ${shown}: ${isMissing ? missing : textOf(error)}`)
  return isMissing ? exitCodes.notFound : exitCodes.notExecutable
}

/** The text of the system, without the name of the call. */
function textOf({ errno, message }: NodeJS.ErrnoException): string {
  return getSystemErrorMap().get(errno ?? 0)?.[1] ?? message
}
