import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import type { TestContext } from 'node:test'
import { setTimeout } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { quoted } from './terminal.mjs'

export const bin = fileURLToPath(new URL('../../../bin/reconcile-lock.js', import.meta.url))

/** The program as a shell would call it. */
export const shell = (args: string[]): string => quoted([process.execPath, bin, ...args])

export interface Result {
  code: number | null
  signal: NodeJS.Signals | null
  stdout: string
  stderr: string
}

/** Runs the program to its end. */
export function cli(cwd: string, args: string[], input = ''): Result {
  const { status, signal, stdout, stderr } = spawnSync(process.execPath, [bin, ...args], {
    cwd,
    encoding: 'utf8',
    input,
    timeout: 60_000,
  })
  return { code: status, signal, stdout, stderr }
}

/** The program at work. */
export class Running {
  readonly child: ChildProcess
  stdout = ''
  stderr = ''
  readonly #end: Promise<unknown[]>

  constructor(t: TestContext, cwd: string, args: string[]) {
    this.child = spawn(process.execPath, [bin, ...args], { cwd, stdio: ['ignore', 'pipe', 'pipe'] })
    this.child.stdout?.setEncoding('utf8').on('data', (text: string) => {
      this.stdout += text
    })
    this.child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      this.stderr += text
    })
    this.#end = once(this.child, 'close')
    t.after(
      () => this.child.exitCode === null && this.child.signalCode === null && this.child.kill('SIGKILL'),
    )
  }

  async ends(): Promise<Result> {
    const [code, signal] = (await this.#end) as [number | null, NodeJS.Signals | null]
    return { code, signal, stdout: this.stdout, stderr: this.stderr }
  }
}

/** Waits for something that will come about. */
export async function until(what: () => unknown, name = String(what)): Promise<void> {
  for (const end = Date.now() + 20_000; !what(); await setTimeout(5)) {
    if (Date.now() > end) throw new Error(`never: ${name}`)
  }
}

export const exists = (path: string) => (): boolean => existsSync(path)
