import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import type { TestContext } from 'node:test'
import { until } from './time.mjs'

/** Words as a shell reads them. */
export const quoted = (words: string[]): string =>
  words.map((word) => `'${word.replaceAll("'", "'\\''")}'`).join(' ')

/** `false`, with the test skipped and the reason printed, where there is no `script` of util-linux. */
export function hasTerminal(t: TestContext): boolean {
  const { error, stdout } = spawnSync('script', ['--version'], { encoding: 'utf8' })
  if (!error && stdout.includes('util-linux')) return true
  t.skip(`no pseudo-terminal can be had here: ${error?.message ?? `script is ${stdout.trim()}`}`)
  return false
}

/** An interactive shell, for job control; it prompts with `ready> `. */
export const SHELL = "env PS1='ready> ' TERM=dumb bash --norc --noprofile --noediting -i"

/** A command in a pseudo-terminal, and somebody who looks at it and types. */
export class Terminal {
  readonly #child: ChildProcess
  /** Everything that the screen was sent. */
  screen = ''

  /** `setUp` is a shell's, before the command. */
  constructor(t: TestContext, command: string, cwd: string, columns = 80, setUp = '') {
    // A shell that stays above the command dies of Ctrl-\, and the terminal hangs up on all it runs: dash does.
    const commands = `stty cols ${columns} rows 24; ${setUp} exec ${command}`
    const script = ['-q', '-e', '-f', '-c', commands, '/dev/null']
    const env = { ...process.env, SHELL: '/bin/sh' }
    this.#child = spawn('script', script, { cwd, env, stdio: ['pipe', 'pipe', 'inherit'] })
    this.#child.stdout?.setEncoding('utf8').on('data', (text: string) => {
      this.screen += text
    })
    t.after(() => this.#child.exitCode === null && this.#child.kill('SIGKILL'))
  }

  type(text: string): void {
    this.#child.stdin?.write(text)
  }

  /** Waits until the screen has shown it, after its first `from` characters. */
  async shows(what: RegExp, from = 0): Promise<RegExpExecArray> {
    const found = until(() => what.exec(this.screen.slice(from)), `the screen shows ${what}`)
    return found.catch((error: Error) => {
      throw new Error(`${error.message}; it shows ${JSON.stringify(this.screen)}`)
    }) as Promise<RegExpExecArray>
  }

  /** The exit code of the command, 128 and its number if that was a signal. */
  async ends(): Promise<number | null> {
    if (this.#child.exitCode === null) await once(this.#child, 'exit')
    return this.#child.exitCode
  }
}
