import { write, writeSync } from 'node:fs'
import { isatty } from 'node:tty'
import { promisify } from 'node:util'
import type { Holder, HolderProcess, Reader } from '../../index.js'
import { delay, now } from '../shared/clock.js'

/** C0, DEL and C1 controls, line separators of Unicode, and marks that change the direction of text. */
const UNPRINTABLE = /[\p{Cc}\u2028\u2029\p{Bidi_Control}]/gu

/** Escapes as in a JavaScript string. */
const SHORT: Record<string, string> = { '\n': '\\n', '\r': '\\r', '\t': '\\t' }

/** Makes a line safe for a terminal or a log: a path, a server and a table may contain any character. */
export const printable = (text: string): string => text.replace(UNPRINTABLE, escaped)

function escaped(character: string): string {
  const code = character.charCodeAt(0).toString(16)
  return SHORT[character] ?? (code.length > 2 ? `\\u${code.padStart(4, '0')}` : `\\x${code.padStart(2, '0')}`)
}

const STDERR = 2

/** Whether standard error is a terminal. Node.js opens that anew for its stream. */
export const stderrIsTerminal = isatty(STDERR)

/** How long a write to a full pipe waits until it is retried, in milliseconds. */
const RETRY_MS = 10

/**
 * Prints one line on standard error. A stream of Node.js would make a pipe non-blocking for all programs that write to
 * it, and they could lose output. An error must not end the command of `run`.
 */
export function printError(text: string): void {
  const line = lineOf(text)
  if (stderrIsTerminal) return void process.stderr.write(line)
  for (let written = 0; written < line.length; ) {
    try {
      written += writeSync(STDERR, line, written)
    } catch (error) {
      // Another program has made the pipe non-blocking, and it is full.
      if ((error as NodeJS.ErrnoException).code !== 'EAGAIN') return
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, RETRY_MS)
    }
  }
}

const lineOf = (text: string): Buffer => Buffer.from(`${printable(text)}\n`)

/** The lines of `printErrorLater`, one after the other. */
let lastLine = Promise.resolve()

/** As `printError`, while the command runs: another thread waits for the reader of a full pipe. */
export function printErrorLater(text: string): void {
  const line = lineOf(text)
  lastLine = lastLine.then(() => writeWhole(line))
}

/** Resolves when the lines of `printErrorLater` are written. */
export const errorsPrinted = (): Promise<void> => lastLine

async function writeWhole(line: Buffer): Promise<void> {
  for (let written = 0; written < line.length; ) {
    try {
      written += (await promisify(write)(STDERR, line, written)).bytesWritten
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EAGAIN') return
      await delay(RETRY_MS)
    }
  }
}

/** Prints one line on standard output. */
export const print = (text: string): void => console.log(printable(text))

/** @returns such as `1 min 12 s` */
export function duration(milliseconds: number): string {
  const seconds = Math.max(0, Math.floor(milliseconds / 1000))
  const days = Math.floor(seconds / 86400)
  const hours = Math.floor(seconds / 3600)
  const minutes = Math.floor(seconds / 60)
  if (days > 0) return `${days} d ${hours % 24} h`
  if (hours > 0) return `${hours} h ${minutes % 60} min`
  return minutes > 0 ? `${minutes} min ${seconds % 60} s` : `${seconds} s`
}

export const formatProcess = ({ pid, host }: Holder): string =>
  `process ${pid}${host === undefined ? '' : ` on ${host}`}`

export const describe = (holder: Holder): string =>
  `${formatProcess(holder)} has held the lock for ${duration(now() - holder.createdAt)}`

/** The longest command line in a sentence, in characters. */
const MAX_COMMAND = 120

/** @returns such as `held for 4 min 12 s by process 4711 (node post-payments.js), user deploy, on ledger-1` */
export function describeHeld({ pid, host, createdAt }: Holder, found: HolderProcess): string {
  return `held for ${duration(now() - createdAt)} by ${describeProcess({ pid, ...found })}${host ? `, on ${host}` : ''}`
}

/** @returns such as `process 4711 (node report.js), user deploy` */
export function describeProcess({ pid, command, user }: Reader): string {
  const cut = command && command.length > MAX_COMMAND ? `${command.slice(0, MAX_COMMAND)}…` : command
  return `process ${pid}${cut ? ` (${cut})` : ''}${user ? `, user ${user}` : ''}`
}
