'use strict'

const { parseArgs } = require('node:util')

/** What a person has typed cannot be done. */
class UsageError extends Error {}

/**
 * @typedef {'overview' | 'run' | 'status' | 'break' | 'sql'} Topic
 * @typedef {import('./named.js').Names} Names
 * @typedef {{ name: 'help', topic: Topic } | { name: 'version' }} Asked
 * @typedef {Names & { name: 'run', timeout: number, message?: string, close: boolean, killAfter: number, command: string[] }} Run
 * @typedef {Names & { name: 'status', json: boolean }} Status
 * @typedef {Names & { name: 'break', force: boolean }} Break
 * @typedef {Asked | Run | Status | Break | { name: 'sql' }} Command
 * @typedef {{ file?: string, postgres?: string, name?: string, wait?: string, message?: string, close?: boolean, 'no-legacy'?: boolean, 'kill-after'?: string, json?: boolean, force?: boolean, help?: boolean, version?: boolean }} Values
 */

const options = /** @type {const} */ ({
  file: { type: 'string' },
  postgres: { type: 'string' },
  name: { type: 'string' },
  wait: { type: 'string' },
  message: { type: 'string' },
  'no-legacy': { type: 'boolean' },
  close: { type: 'boolean' },
  'kill-after': { type: 'string' },
  json: { type: 'boolean' },
  force: { type: 'boolean' },
  help: { type: 'boolean', short: 'h' },
  version: { type: 'boolean' },
})

const ofLock = ['file', 'postgres', 'name']

/** @type {Record<Exclude<Topic, 'overview'>, string[]>} */
const taken = {
  run: [...ofLock, 'wait', 'message', 'no-legacy', 'close', 'kill-after'],
  status: [...ofLock, 'json'],
  break: [...ofLock, 'force'],
  sql: [],
}

/** How long a command that has lost its lock may take to end, in milliseconds. */
const KILL_AFTER = 10_000

const COMMANDS = 'run, status, break or sql'

const URL_HINT = 'a URL goes with --postgres'

/**
 * Whether a word may be a URL with a password, or a part of one: messages end up in logs and mails, and do not repeat it.
 * @param {string} word
 */
const isSecret = (word) => /:\/\/|@/.test(word)

/** @param {string | undefined} word @returns {word is keyof typeof taken} */
const isCommand = (word) => word !== undefined && Object.hasOwn(taken, word)

/**
 * @param {string[]} args
 * @returns {Command}
 */
function parseCommand(args) {
  const end = args.indexOf('--')
  const ours = end < 0 ? args : args.slice(0, end)
  const { values, positionals, names } = parse(ours)
  const [name, ...more] = positionals
  if (values.help) return { name: 'help', topic: isCommand(name) ? name : 'overview' }
  if (values.version) return { name: 'version' }
  if (name === undefined) throw new UsageError(`a command is missing: ${COMMANDS}`)
  if (!isCommand(name))
    throw new UsageError(`unknown command${isSecret(name) ? '' : ` "${name}"`}; commands: ${COMMANDS}`)
  if (name === 'run' && end < 0) {
    const example = more.length > 0 && !more.some(isSecret) ? more.join(' ') : 'COMMAND'
    throw new UsageError(`-- and the command to run are missing: reconcile-lock run -- ${example}`)
  }
  if (more.length > 0) throw new UsageError(superfluous(name, /** @type {string} */ (more[0])))
  if (name !== 'run' && end >= 0) throw new UsageError(`${name} takes no command to run`)
  for (const option of names) {
    if (!taken[name].includes(option)) throw new UsageError(`${name} takes no --${option}`)
  }
  const command = end < 0 ? [] : args.slice(end + 1)
  return commandOf(name, values, command)
}

/**
 * @param {string} name of a command
 * @param {string} word that it does not take
 */
function superfluous(name, word) {
  if (!isSecret(word)) return `${name} takes no ${word} before --`
  return `${name} takes no argument before --${word.includes('://') ? `; ${URL_HINT}` : ''}`
}

/**
 * @param {keyof typeof taken} name
 * @param {Values} values
 * @param {string[]} command
 * @returns {Command}
 */
function commandOf(name, values, command) {
  if (name === 'sql') return { name }
  const { message } = values
  const lock = parseLock(values)
  if (name === 'status') return { name, ...lock, json: values.json === true }
  if (name === 'break') return { name, ...lock, force: values.force === true }
  if (!command[0]) throw new UsageError('the command to run is missing after --')
  const timeout = parseSeconds('--wait', values.wait) ?? 0
  const killAfter = parseSeconds('--kill-after', values['kill-after']) ?? KILL_AFTER
  const close = values.close === true
  if (close && values.postgres !== undefined)
    throw new UsageError('--close does not go with --postgres: the command does not inherit that lock')
  if (values['kill-after'] !== undefined && values.postgres === undefined)
    throw new UsageError('--kill-after needs --postgres: a lock on a file is not lost while its process runs')
  if (values['no-legacy'] && values.postgres !== undefined)
    throw new UsageError('--no-legacy does not go with --postgres: it is about a lock file')
  const legacy = values['no-legacy'] !== true
  const about = { legacy, timeout, close, killAfter, ...(message !== undefined && { message }) }
  return { name, ...lock, ...about, command }
}

/**
 * @param {Values} values
 * @returns {Names}
 */
function parseLock({ file, postgres, name }) {
  if (file === '') throw new UsageError('--file needs the path of a file')
  if (file?.includes('://')) throw new UsageError(`--file takes a path, and no URL; ${URL_HINT}`)
  if (name === '') throw new UsageError('--name needs the name of a lock')
  if (name?.includes('://')) throw new UsageError(`--name takes a name, and no URL; ${URL_HINT}`)
  if (postgres === undefined) {
    if (name !== undefined) throw new UsageError('--name needs --postgres; a lock file is named by --file')
    return file === undefined ? {} : { file }
  }
  if (file !== undefined) throw new UsageError('--file does not go with --postgres: a lock is on one of them')
  // A mistyped one may hold a password, and is not repeated.
  if (!/^postgres(ql)?:\/\//.test(postgres))
    throw new UsageError('--postgres needs a URL, such as postgres://USER@HOST/DATABASE')
  // A part of the password would be taken for the host, and be named when that is not found.
  if (!/^[^/]*\/\/([^@/?#]*@)?[^@]*$/.test(postgres))
    throw new UsageError('--postgres: write an @ of a password as %40, and / ? # as %2F %3F %23')
  return { postgres, ...(name !== undefined && { lockName: name }) }
}

/** @param {string[]} args */
function parse(args) {
  try {
    const { values, positionals, tokens } = parseArgs({ args, options, allowPositionals: true, tokens: true })
    const names = tokens.flatMap((token) => (token.kind === 'option' ? [token.name] : []))
    const twice = names.find((name, index) => names.indexOf(name) < index)
    if (twice) throw new UsageError(`--${twice} was given twice`)
    return { values: /** @type {Values} */ (values), positionals, names }
  } catch (error) {
    throw error instanceof UsageError
      ? error
      : new UsageError(explained(/** @type {NodeJS.ErrnoException} */ (error)))
  }
}

/** What other programs call these options. @type {Record<string, string>} */
const OTHER_NAMES = {
  '--timeout': '--wait SECONDS',
  '-w': '--wait SECONDS',
  '--path': '--file',
  '--lock': '--file',
  '-f': '--file',
  '--quiet': '--message TEXT',
  '-o': '--close',
  '-k': '--kill-after SECONDS',
  '--pg': '--postgres',
  '--database': '--postgres',
}

/**
 * What is wrong with the options, in the words of this program.
 * @param {NodeJS.ErrnoException} error of `parseArgs`
 */
function explained({ code, message }) {
  if (isSecret(message))
    return code === 'ERR_PARSE_ARGS_UNKNOWN_OPTION' ? 'unknown option' : 'an option is wrong'
  const [, option = ''] = /'(--?[^' ,]+)/.exec(message) ?? []
  if (code === 'ERR_PARSE_ARGS_UNKNOWN_OPTION') {
    const near = OTHER_NAMES[option] ?? nearest(option)
    return `unknown option ${option}${near === undefined ? '' : `; did you mean ${near}?`}`
  }
  if (code !== 'ERR_PARSE_ARGS_INVALID_OPTION_VALUE') return message
  const [, name = ''] = /--([a-z-]+)/.exec(message) ?? []
  return options[/** @type {keyof typeof options} */ (name)]?.type === 'string'
    ? `${option} needs a value, such as ${option}=VALUE`
    : `${option} takes no value`
}

/** @param {string} option */
function nearest(option) {
  const isNear = (/** @type {string} */ name) => distance(name, option.replace(/^-+/, '')) <= 2
  const name = Object.keys(options).find(isNear)
  return name === undefined ? undefined : `--${name}`
}

/**
 * How many letters have to be added, removed or changed.
 * @param {string} from
 * @param {string} to
 */
function distance(from, to) {
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

/**
 * @param {string} option
 * @param {string | undefined} text seconds
 * @returns {number | undefined} milliseconds
 */
function parseSeconds(option, text) {
  if (text === undefined) return undefined
  if (text === 'forever') return Number.POSITIVE_INFINITY
  if (!/^(\d+\.?\d*|\.\d+)$/.test(text)) {
    const given = isSecret(text) ? '' : ` ${text}`
    throw new UsageError(`${option}${given}: expected a number of seconds >= 0, or "forever"`)
  }
  return Number(text) * 1000
}

module.exports = { UsageError, parseCommand }
