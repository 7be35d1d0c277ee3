import assert from 'node:assert/strict'
import { type ChildProcess, fork, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync, rmSync } from 'node:fs'
import type { TestContext } from 'node:test'
import { fileURLToPath } from 'node:url'
import { resolveLockPath } from 'reconcile-lock'
import { nextMessage } from './child.mjs'

export interface Order {
  do: 'hold' | 'acquire' | 'durable' | 'release' | 'inspect' | 'break' | 'force' | 'settle' | 'count'
  /** The directory of the synchronous call. */
  sync: string
  /** The directory of the asynchronous call. */
  async: string
}

export interface Outcome {
  skipped?: true
  value?: unknown
  error?: {
    name: string
    code?: string | undefined
    errno?: number | undefined
    syscall?: string | undefined
    path?: string | undefined
    message: string
  }
}

export interface Report {
  sync?: Outcome
  async?: Outcome
  descriptors?: number
}

/** One system call on a lock's path or on a descriptor of it. */
export interface Site {
  /** The kernel's name. */
  call: string
  /** The position among the calls of this name in the operation, from 1. */
  nth: number
  /** The `syscall` of an error of `node:fs`. */
  syscall: string
  /** It opens the directory that contains the lock file. */
  isOfDirectory: boolean
}

/** The system calls of an order under strace, and its outcome. */
export interface Traced {
  report: Report
  /** The calls of the main thread and of the others. */
  sites: { sync: Site[]; async: Site[] }
  /** How many of them were made to fail. */
  injected: { sync: number; async: number }
}

const target = fileURLToPath(new URL('strace-target.mjs', import.meta.url))

const named: [RegExp, string][] = [
  [/^open/, 'open'],
  [/^p?read/, 'read'],
  [/^p?write/, 'write'],
  [/^unlink/, 'unlink'],
]

function site(call: string, args: string, nth: number): Site {
  const onDescriptor = /^\d+(?:, ""|,? |\))/.test(args) && !/^\d+, "[^"]/.test(args)
  const stat = /^(l?stat|newfstatat|statx)$/.test(call)
  const other = named.find(([kernels]) => kernels.test(call))?.[1] ?? call
  const isOfDirectory = args.includes('O_PATH')
  return { call, nth, isOfDirectory, syscall: stat ? (onDescriptor ? 'fstat' : 'lstat') : other }
}

/** Why strace cannot be attached to a process here. */
export async function cannotAttach(): Promise<string | false> {
  if (spawnSync('strace', ['-V']).status !== 0) return 'strace is not installed'
  // It ends with this process.
  const sleeper = spawn('cat', { stdio: ['pipe', 'ignore', 'ignore'] })
  try {
    const detach = await attach(sleeper.pid, [])
    await detach()
    return false
  } catch (error) {
    return `strace may not attach here: ${(error as Error).message.trim()}`
  } finally {
    sleeper.kill('SIGKILL')
  }
}

/**
 * Attaches strace to a running process; returns a function that detaches it.
 *
 * The process must not exit meanwhile: strace would wait for its main thread, which waits for the other threads that
 * strace has stopped.
 */
export async function attach(
  pid: number | undefined,
  options: string[],
): Promise<(signal?: NodeJS.Signals) => Promise<void>> {
  const strace = spawn('strace', [...options, '-p', String(pid)], { stdio: ['ignore', 'ignore', 'pipe'] })
  let said = ''
  await new Promise<void>((resolve, reject) => {
    strace.stderr.setEncoding('utf8').on('data', (text: string) => {
      said += text
      if (/ attached/.test(said)) resolve()
    })
    strace.on('close', () => reject(new Error(`strace has ended: ${said}`)))
  })
  return async (signal = 'SIGTERM') => {
    if (strace.exitCode !== null || strace.signalCode !== null) return
    const ended = once(strace, 'exit')
    strace.kill(signal)
    await ended
  }
}

/** Whether the log of strace has a call that it delayed; such a call is marked when it ends. */
export const isDelayed = (log: string): boolean => readFileSync(log, 'utf8').includes('(DELAYED)')

/** A process that strace attaches to for single calls, which is faster than a start of Node.js for each. */
export class Subject {
  readonly child: ChildProcess
  readonly #directories: { sync: string; async: string }
  readonly #log: string

  constructor(t: TestContext, directories: { sync: string; async: string }, log: string) {
    this.#directories = directories
    this.#log = log
    this.child = fork(target)
    t.after(() => this.child.kill('SIGKILL'))
  }

  async order(what: Order['do']): Promise<Report> {
    const report = nextMessage<Report>(this.child)
    this.child.send({ do: what, ...this.#directories } satisfies Order)
    return report
  }

  async descriptors(what: 'count' | 'settle'): Promise<number> {
    return (await this.order(what)).descriptors ?? Number.NaN
  }

  /** Executes an order under strace, with `injections` for `-e inject=` into calls on the locks. */
  async traced(what: Order['do'], injections: string[], calls = '%desc,%file'): Promise<Traced> {
    const paths = Object.values(this.#directories).flatMap((cwd) => ['-P', resolveLockPath(cwd), '-P', cwd])
    const inject = injections.flatMap((injection) => ['-e', `inject=${injection}`])
    // strace cannot filter other calls by path.
    const only = calls === '%desc,%file' ? paths : []
    const options = ['-f', '-o', this.#log, '-e', `trace=${calls}`, ...inject, ...only]
    const detach = await attach(this.child.pid, options)
    const report = await this.order(what)
    await detach()
    return { report, ...this.#read() }
  }

  /** Separates the calls by thread: asynchronous calls do not run on the main thread. */
  #read(): Omit<Traced, 'report'> {
    const sites: Traced['sites'] = { sync: [], async: [] }
    const injected = { sync: 0, async: 0 }
    for (const line of readFileSync(this.#log, 'utf8').split('\n')) {
      const [, thread, call, args = ''] = /^(\d+) +(?:(\w+)\((.*))?/.exec(line) ?? []
      const form = Number(thread) === this.child.pid ? 'sync' : 'async'
      if (line.includes('(INJECTED)')) injected[form] += 1
      if (call === undefined || call === 'close') continue
      // The reason for a free lock depends on its directory.
      const isOfDirectory = Object.values(this.#directories).some((cwd) => args.includes(`"${cwd}"`))
      if (isOfDirectory && !call.startsWith('open')) continue
      const nth = sites[form].filter((before) => before.call === call).length + 1
      sites[form].push(site(call, args, nth))
    }
    rmSync(this.#log)
    return { sites, injected }
  }
}

/** Asserts that the outcome is the error that `node:fs` would throw for this call. */
export function assertSystemError(
  outcome: Outcome,
  expected: { code: string; errno: number; path: string; syscall: string },
  what: string,
): void {
  const { name, message, ...error } = outcome.error ?? { name: 'no error', message: JSON.stringify(outcome) }
  assert.deepEqual({ name, ...error }, { name: 'Error', ...expected }, `${what}: ${message}`)
  assert.match(message, new RegExp(`^${expected.code}: .+, ${expected.syscall} '`), what)
}
