import { spawnSync } from 'node:child_process'
import { constants } from 'node:os'
import { setImmediate, setTimeout } from '../shared/clock.js'

const FORWARDED: NodeJS.Signals[] = [
  'SIGINT',
  'SIGTERM',
  'SIGHUP',
  'SIGQUIT',
  'SIGUSR1',
  'SIGUSR2',
  'SIGWINCH',
  'SIGTSTP',
  'SIGCONT',
  // Ctrl-Break on Windows; an event without a source elsewhere.
  'SIGBREAK',
]

/** Signals whose default action also writes a core file. */
const CORE_DUMP_SIGNALS = new Set<NodeJS.Signals>([
  'SIGQUIT',
  'SIGILL',
  'SIGTRAP',
  'SIGABRT',
  'SIGBUS',
  'SIGFPE',
  'SIGSEGV',
  'SIGXCPU',
  'SIGXFSZ',
  'SIGSYS',
])

const isDeno = process.versions.deno !== undefined

type Listener = (signal: NodeJS.Signals) => void

/** Catches the signals that would end or stop this process, and keeps them until there is a listener. */
export class Signals {
  #listener: Listener = (signal) => this.#early.push(signal)
  readonly #early: NodeJS.Signals[] = []
  #isStopping = false

  constructor() {
    for (const signal of FORWARDED) process.on(signal, this.#onSignal)
  }

  readonly #onSignal = (signal: NodeJS.Signals) => {
    if (signal === 'SIGTSTP') return this.#stopSoon()
    if (signal === 'SIGCONT') this.#isStopping = false
    this.#listener(signal)
  }

  /** @param listener also gets the signals that came before it */
  listen(listener: Listener): void {
    this.#listener = listener
    for (const signal of this.#early.splice(0)) listener(signal)
  }

  /** Stops this process as Ctrl-Z would, unless a quick `fg` continues it first. */
  #stopSoon(): void {
    this.#isStopping = true
    setImmediate(() => {
      if (!this.#isStopping) return
      this.#isStopping = false
      this.#listener('SIGTSTP')
      // Deno raises SIGSTOP for SIGTSTP, too, but in another thread, which may find that the listener is back.
      if (isDeno) return process.kill(process.pid, 'SIGSTOP')
      process.removeListener('SIGTSTP', this.#onSignal)
      process.kill(process.pid, 'SIGTSTP')
      process.on('SIGTSTP', this.#onSignal)
    })
  }

  end(): void {
    for (const signal of FORWARDED) process.removeListener(signal, this.#onSignal)
  }
}

/** Signals that Node.js ignores. It handles SIGUSR1, too, but that had a listener, which is removed. */
const NOT_DEFAULT = new Set<NodeJS.Signals>(['SIGPIPE', 'SIGXFSZ'])

/**
 * Ends this process as its command ended: a shell stops its script only if SIGINT has ended the process. The exit code
 * is for process 1 of a container, and for a signal that the runtime does not support or reserves.
 */
export function exitBySignal(signal: NodeJS.Signals): void {
  process.exitCode = 128 + constants.signals[signal]
  // The kernel ignores the signals of process 1 to itself, and qemu would wait for its end by one.
  if (process.pid === 1) return
  if (CORE_DUMP_SIGNALS.has(signal)) preventCoreDump()
  if (NOT_DEFAULT.has(signal)) restoreDefault(signal)
  // Deno may open its inspector at this signal.
  if (isDeno && signal === 'SIGUSR1') return
  try {
    process.kill(process.pid, signal)
    // Another thread of Deno ends the process, and it must not end by itself before.
    if (isDeno) setTimeout(() => {}, 1000)
  } catch {}
}

/** The removal of a listener restores the system's default. */
function restoreDefault(signal: NodeJS.Signals): void {
  const listener = () => {}
  process.on(signal, listener)
  process.removeListener(signal, listener)
}

/** The core file of the command must not be replaced by one of this process. */
function preventCoreDump(): void {
  if (process.platform !== 'linux') return
  try {
    // By default the kernel writes to the current directory, and in this one no process can create a file.
    process.chdir('/proc/self')
  } catch {}
  // The kernel writes no dump for a limit of 1, not even to a pipe. The program is missing on some systems.
  spawnSync('prlimit', ['--pid', String(process.pid), '--core=1:'], { stdio: 'ignore' })
}
