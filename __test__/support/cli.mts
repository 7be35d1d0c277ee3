import { type ChildProcess, type StdioOptions, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { TestContext } from 'node:test'
import { fileURLToPath } from 'node:url'
import { publicExecPath, publicPath } from './public-copy.mjs'
import { quoted } from './terminal.mjs'
import { until } from './time.mjs'

export { watches as waits } from './waits.mjs'

export const bin = fileURLToPath(new URL('../../../bin/reconcile-lock.js', import.meta.url))

/** The program at a path where every user can start it. */
export const publicProgram = (): string[] => [publicExecPath(), publicPath(bin)]

/** The command line of the program for a shell. */
export const shell = (args: string[]): string => quoted([process.execPath, bin, ...args])

export interface Result {
  code: number | null
  signal: NodeJS.Signals | null
  stdout: string
  stderr: string
}

/** Runs the program to its end. `stdio` replaces the pipes. */
export function cli(cwd: string, args: string[], input = '', stdio: StdioOptions = 'pipe'): Result {
  const { status, signal, stdout, stderr } = spawnSync(process.execPath, [bin, ...args], {
    cwd,
    encoding: 'utf8',
    input,
    stdio,
    timeout: 60_000,
  })
  return { code: status, signal, stdout, stderr }
}

/** A running program. */
export class Running {
  readonly child: ChildProcess
  stdout = ''
  stderr = ''
  readonly #end: Promise<unknown[]>

  /**
   * @param within a command and its options that start the program, such as `setpriv`
   * @param program Node.js and the program itself
   */
  constructor(
    t: TestContext,
    cwd: string,
    args: string[],
    within: string[] = [],
    program = [process.execPath, bin],
  ) {
    const [command = '', ...rest] = [...within, ...program, ...args]
    this.child = spawn(command, rest, { cwd, stdio: ['ignore', 'pipe', 'pipe'] })
    this.child.stdout?.setEncoding('utf8').on('data', (text: string) => {
      this.stdout += text
    })
    this.child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      this.stderr += text
    })
    this.#end = once(this.child, 'close')
    t.after(() => this.child.kill('SIGKILL'))
  }

  async ends(): Promise<Result> {
    let isOver = false
    this.#end.then(() => {
      isOver = true
    })
    await until(() => isOver, `${this.child.spawnargs.join(' ')} ends`)
    const [code, signal] = (await this.#end) as [number | null, NodeJS.Signals | null]
    return { code, signal, stdout: this.stdout, stderr: this.stderr }
  }
}

/** Hides /proc from the command that follows; only root can. */
export const hideProc = ['unshare', '--mount', 'sh', '-c', 'mount -t tmpfs none /proc && exec "$@"', 'sh']

export const exists = (path: string) => (): boolean => existsSync(path)

/** A command that records which of these signals it receives, and exits with 9 if the file `end` exists. */
export class Listener {
  readonly command: string[]
  readonly #cwd: string

  constructor(cwd: string, signals: NodeJS.Signals[]) {
    this.#cwd = cwd
    const script = `
      const fs = require('node:fs')
      const [cwd, ...signals] = process.argv.slice(2)
      const received = []
      for (const signal of signals) process.on(signal, () => {
        received.push(signal)
        fs.writeFileSync(cwd + '/receiving', received.join())
        fs.renameSync(cwd + '/receiving', cwd + '/received')
      })
      setInterval(() => {
        if (fs.existsSync(cwd + '/end')) process.exit(9)
        // The test has ended without ending its command.
        if (!fs.existsSync(cwd)) process.exit(1)
      }, 10)
      fs.writeFileSync(cwd + '/pid', String(process.pid))`
    // A file, because runtimes treat the arguments after `-e` differently.
    const file = join(cwd, 'listener.cjs')
    writeFileSync(file, script)
    this.command = [process.execPath, file, cwd, ...signals]
  }

  /** Its pid, when it listens. */
  async pid(): Promise<number> {
    await until(() => read(join(this.#cwd, 'pid')) !== '', 'the command listens')
    return Number(read(join(this.#cwd, 'pid')))
  }

  /** The names of the signals it has received, in order. */
  received(): string {
    return read(join(this.#cwd, 'received'))
  }

  async receives(signals: string): Promise<void> {
    await until(() => this.received() === signals, `the command receives ${signals}`).catch(
      (error: Error) => {
        const pid = read(join(this.#cwd, 'pid'))
        const status = read(`/proc/${pid}/status`) || 'is gone'
        throw new Error(`${error.message}; it received ${this.received()}; process ${pid} ${status}`)
      },
    )
  }
}

/** The text of a file, empty if the file does not exist yet. */
export const read = (path: string): string => (existsSync(path) ? readFileSync(path, 'utf8') : '')

/** Whether no signal is pending for a process. */
export const hasHandledAll = (pid: number | undefined): boolean =>
  !/^(Sig|Shd)Pnd:\s*0*[1-9a-f]/m.test(read(`/proc/${pid}/status`))
