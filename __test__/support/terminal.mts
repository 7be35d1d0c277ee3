import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import type { TestContext } from 'node:test'
import { until } from './time.mjs'

/** Quotes words for a shell. */
export const quoted = (words: string[]): string =>
  words.map((word) => `'${word.replaceAll("'", "'\\''")}'`).join(' ')

/** Skips the test with the reason and returns `false` if `script` of util-linux is not installed. */
export function hasTerminal(t: TestContext): boolean {
  const { error, stdout } = spawnSync('script', ['--version'], { encoding: 'utf8' })
  if (!error && stdout.includes('util-linux')) return true
  t.skip(`no pseudo-terminal can be had here: ${error?.message ?? `script is ${stdout.trim()}`}`)
  return false
}

/** An interactive shell, for job control; it prompts with `ready> `. */
export const SHELL = "env PS1='ready> ' TERM=xterm bash --norc --noprofile --noediting -i"

/** A command in a pseudo-terminal that the test reads and types into. */
export class Terminal {
  readonly #child: ChildProcess
  /** Everything that was written to the terminal. */
  screen = ''

  /** `setUp` is shell code that runs before the command. */
  constructor(t: TestContext, command: string, cwd: string, columns = 80, setUp = '') {
    // A parent shell such as dash would die of Ctrl-\, and the terminal would hang up its processes.
    const commands = `stty cols ${columns} rows 24; ${setUp} exec ${command}`
    const script = ['-q', '-e', '-f', '-c', commands, '/dev/null']
    const env = { ...process.env, SHELL: '/bin/sh', TERM: 'xterm' }
    this.#child = spawn('script', script, { cwd, env, stdio: ['pipe', 'pipe', 'inherit'] })
    this.#child.stdout?.setEncoding('utf8').on('data', (text: string) => {
      this.screen += text
    })
    t.after(() => this.#child.exitCode === null && this.#child.kill('SIGKILL'))
  }

  type(text: string): void {
    this.#child.stdin?.write(text)
  }

  /** Waits until the screen shows `what` after its first `from` characters. */
  async shows(what: RegExp, from = 0): Promise<RegExpExecArray> {
    const found = until(() => what.exec(this.screen.slice(from)), `the screen shows ${what}`)
    return found.catch((error: Error) => {
      throw new Error(`${error.message}; it shows ${JSON.stringify(this.screen)}`)
    }) as Promise<RegExpExecArray>
  }

  /** The exit code of the command, or 128 plus the number of the signal that ended it. */
  async ends(): Promise<number | null> {
    if (this.#child.exitCode === null) await once(this.#child, 'exit')
    return this.#child.exitCode
  }
}
