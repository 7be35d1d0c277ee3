import { readFileSync } from 'node:fs'
import { UsageError } from './options.js'
import { isSecret } from './secrets.js'

/** U+FFFD: Node.js decodes bytes that are not UTF-8 to it. */
const REPLACEMENT = '\uFFFD'

const HINT = 'use UTF-8, or put the command into a script'

/** Refuses arguments that Node.js has altered: they would name another file, or change the command. */
export function checkEncoding(args: string[]): void {
  if (!args.some((arg) => arg.includes(REPLACEMENT))) return
  const words = rawWords(args)
  const wrong = args.find((arg, index) => arg.includes(REPLACEMENT) && words?.[index] !== bytesOf(arg))
  if (wrong === undefined) return
  const named = isSecret(wrong) ? 'an argument' : `the argument "${wrong}"`
  throw new UsageError(
    words === undefined
      ? `${named} contains U+FFFD, by which Node.js replaces bytes that are not UTF-8; ${HINT}`
      : `${named} is not valid UTF-8, so Node.js has altered it; ${HINT}`,
  )
}

/** The bytes of a text in UTF-8, one character each. */
const bytesOf = (text: string): string => Buffer.from(text).toString('latin1')

/**
 * The arguments as the system has them, in bytes; `undefined` if it does not report them. They are the last words of
 * the command line, after those of an emulator or a runtime. A title that was set for the process replaces them.
 */
function rawWords(args: string[]): string[] | undefined {
  try {
    const words = readFileSync('/proc/self/cmdline', 'latin1')
      .split('\0')
      .slice(-args.length - 1, -1)
    const isOurs = args.every((arg, index) => Buffer.from(words[index] ?? '', 'latin1').toString() === arg)
    return isOurs ? words : undefined
  } catch {
    return undefined
  }
}
