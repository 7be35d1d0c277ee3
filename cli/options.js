'use strict'

const { parseArgs } = require('node:util')

/** What a person has typed cannot be done. */
class UsageError extends Error {}

/**
 * @typedef {'overview' | 'run' | 'status' | 'break'} Topic
 * @typedef {{ name: 'help', topic: Topic } | { name: 'version' }} Asked
 * @typedef {{ name: 'run', file?: string, timeout: number, message?: string, command: string[] }} Run
 * @typedef {{ name: 'status', file?: string, json: boolean }} Status
 * @typedef {{ name: 'break', file?: string, force: boolean }} Break
 * @typedef {Asked | Run | Status | Break} Command
 * @typedef {{ file?: string, wait?: string, message?: string, json?: boolean, force?: boolean, help?: boolean, version?: boolean }} Values
 */

const options = /** @type {const} */ ({
  file: { type: 'string' },
  wait: { type: 'string' },
  message: { type: 'string' },
  json: { type: 'boolean' },
  force: { type: 'boolean' },
  help: { type: 'boolean', short: 'h' },
  version: { type: 'boolean' },
})

/** @type {Record<Exclude<Topic, 'overview'>, string[]>} */
const taken = {
  run: ['file', 'wait', 'message'],
  status: ['file', 'json'],
  break: ['file', 'force'],
}

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
  if (name === undefined) throw new UsageError('a command is missing: run, status or break')
  if (!isCommand(name)) throw new UsageError(`there is no command ${name}: run, status or break`)
  if (name === 'run' && end < 0) {
    const example = more.length > 0 ? more.join(' ') : 'COMMAND'
    throw new UsageError(`-- and the command to run are missing: reconcile-lock run -- ${example}`)
  }
  if (more.length > 0) throw new UsageError(`${name} takes no ${more[0]} before --`)
  if (name !== 'run' && end >= 0) throw new UsageError(`${name} takes no command to run`)
  for (const option of names) {
    if (!taken[name].includes(option)) throw new UsageError(`${name} takes no --${option}`)
  }
  const command = end < 0 ? [] : args.slice(end + 1)
  return commandOf(name, values, command)
}

/**
 * @param {keyof typeof taken} name
 * @param {Values} values
 * @param {string[]} command
 * @returns {Command}
 */
function commandOf(name, values, command) {
  const { file, message } = values
  if (file === '') throw new UsageError('--file needs the path of a file')
  const about = file === undefined ? {} : { file }
  if (name === 'status') return { name, ...about, json: values.json === true }
  if (name === 'break') return { name, ...about, force: values.force === true }
  if (!command[0]) throw new UsageError('the command to run is missing after --')
  const timeout = parseWait(values.wait)
  return { name, ...about, ...(message !== undefined && { message }), timeout, command }
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
    throw new UsageError(/** @type {Error} */ (error).message)
  }
}

/**
 * @param {string | undefined} text seconds
 * @returns {number} milliseconds
 */
function parseWait(text) {
  if (text === undefined) return 0
  if (text === 'forever') return Number.POSITIVE_INFINITY
  if (!/^(\d+\.?\d*|\.\d+)$/.test(text)) {
    throw new UsageError(`--wait ${text}: expected a number of seconds, or "forever"`)
  }
  return Number(text) * 1000
}

module.exports = { UsageError, parseCommand }
