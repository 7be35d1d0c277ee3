import { options, spellings } from './option-table.js'
import { isSecret } from './secrets.js'

const ONE_LOCK = 'run acquires one lock and releases it when its command ends'
const STAYS_PARENT = 'run stays the parent of its command; --close keeps the command from holding the lock'

/** Options of other programs, with those of this one, or the reason that there is none. */
const OTHER_NAMES: Record<string, string> = {
  '--path': 'did you mean --file?',
  '--lock': 'did you mean --file?',
  '-f': 'did you mean --file?',
  '--quiet': 'did you mean --message TEXT?',
  '-k': 'did you mean --kill-after SECONDS?',
  '--pg': 'did you mean --postgres?',
  '--database': 'did you mean --postgres?',
  '-u': ONE_LOCK,
  '--unlock': ONE_LOCK,
  '-F': STAYS_PARENT,
  '--no-fork': STAYS_PARENT,
}

/** Rewords an error of `parseArgs` in the style of this program. */
export function describeParseError({ code, message }: NodeJS.ErrnoException): string {
  if (isSecret(message)) return code === 'ERR_PARSE_ARGS_UNKNOWN_OPTION' ? 'unknown option' : 'invalid option'
  const [, option = ''] = /'(?:-\w, )?(--?[^' ,]+)/.exec(message) ?? []
  if (code === 'ERR_PARSE_ARGS_UNKNOWN_OPTION') {
    const hint = OTHER_NAMES[option] ?? nearest(option)
    return `unknown option ${option}${hint === undefined ? '' : `; ${hint}`}`
  }
  if (code !== 'ERR_PARSE_ARGS_INVALID_OPTION_VALUE') return message
  const [name, { type }] = Object.entries(spellings).find(
    ([long, { short }]) => option === `--${long}` || option === `-${short}`,
  ) ?? [option, {}]
  if (type !== 'string') return `--${name} does not accept a value`
  // The value of the option can also be missing, before the next option.
  return `--${name} needs a value; one that begins with - is written --${name}=VALUE`
}

function nearest(option: string): string | undefined {
  const word = option.replace(/^-+/, '')
  // getopt_long(3) accepts abbreviations, so scripts for flock(1) may have them.
  const begins = (name: string) => word.length > 2 && name.startsWith(word)
  const isNear = (name: string) => distance(name, word) <= 2
  const name = Object.keys(spellings).find(begins) ?? Object.keys(options).find(isNear)
  return name === undefined ? undefined : `did you mean --${name}?`
}

/** The edit distance: how many letters are added, removed or changed. */
function distance(from: string, to: string): number {
  let row = Array.from({ length: to.length + 1 }, (_, index) => index)
  for (const [index, letter] of [...from].entries()) {
    const next = [index + 1]
    for (let at = 0; at < to.length; at += 1) {
      const change = Number(row[at]) + (letter === to[at] ? 0 : 1)
      next.push(Math.min(change, Number(row[at + 1]) + 1, Number(next[at]) + 1))
    }
    row = next
  }
  return Number(row.at(-1))
}
