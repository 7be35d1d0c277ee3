// The command lines of the tools, and the tables that they print.
import { parseArgs } from 'node:util'

/**
 * Reads `process.argv` by `parseArgs`, with `--no-build` and `--help` for every tool. The process exits with 2 after an
 * error, with 0 after `--help`.
 * @param {string} help
 * @param {Record<string, { type?: 'string' | 'boolean', default?: string, list?: string[], read?: (value: string) => unknown }>} known
 *   `list`: the names that are allowed, separated by commas. `read` returns the value or throws
 */
export function readOptions(help, known) {
  try {
    const options = { 'no-build': { type: 'boolean' }, help: { type: 'boolean' } }
    for (const [name, { type = 'string', default: value }] of Object.entries(known))
      options[name] = { type, ...(value === undefined ? {} : { default: value }) }
    const { 'no-build': built = false, help: isHelp, ...values } = parseArgs({ options }).values
    if (isHelp) {
      console.log(help)
      process.exit(0)
    }
    for (const [name, { list, read = (value) => value }] of Object.entries(known)) {
      if (values[name] === undefined) continue
      try {
        values[name] = list ? namesIn(list, values[name]) : read(values[name])
      } catch (error) {
        throw new Error(`--${name} ${values[name]}: ${error.message}`)
      }
    }
    return { ...values, built }
  } catch (error) {
    console.error(`${error.message}\n\n${help}`)
    return process.exit(2)
  }
}

/** The names in the order of the list, each once. */
function namesIn(list, value) {
  const names = value.split(',')
  const unknown = names.find((name) => !list.includes(name))
  if (unknown !== undefined) throw new Error(`one of ${list.join(', ')}`)
  return list.filter((name) => names.includes(name))
}

/** @param {number} least */
export const wholeFrom = (least) => (/** @type {string} */ value) => {
  const number = /^\d+$/.test(value) ? Number(value) : Number.NaN
  if (!Number.isSafeInteger(number) || number < least) throw new Error(`a whole number from ${least}`)
  return number
}

/**
 * Aligned columns; all but the first `words` are numbers.
 * @param {string[][]} rows
 * @param {number} words
 */
export function columns(rows, words) {
  const widths = rows[0].map((_, column) => Math.max(...rows.map((row) => row[column].length)))
  const cell = (text, column) =>
    column < words ? text.padEnd(widths[column]) : text.padStart(widths[column])
  return rows.map((row) => `  ${row.map(cell).join('  ')}`.trimEnd()).join('\n')
}
