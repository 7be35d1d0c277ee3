// The command lines of the tools, and the tables that they print.
import { cpus } from 'node:os'
import { parseArgs } from 'node:util'

export const machine = `Node ${process.versions.node}, ${process.platform} ${process.arch}, ${cpus().length} x ${cpus()[0]?.model}`

/**
 * Reads `process.argv` by `parseArgs`, with `--no-build` and `--help` for every tool. The process exits with 2 after an
 * error, with 0 after `--help`. Each option has a `type`, a `default`, and a `list` of the names that are allowed,
 * separated by commas, or `read`, which returns the value or throws.
 */
export function readOptions(help, known) {
  let option = ''
  try {
    const options = { 'no-build': { type: 'boolean' }, help: { type: 'boolean' } }
    for (const [name, { type = 'string', default: value }] of Object.entries(known))
      options[name] = { type, default: value }
    const { 'no-build': built = false, help: isHelp, ...values } = parseArgs({ options }).values
    if (isHelp) {
      console.log(help)
      process.exit(0)
    }
    for (const [name, { list, read = (value) => value }] of Object.entries(known)) {
      if (values[name] === undefined) continue
      option = `--${name} ${values[name]}: `
      values[name] = list ? namesIn(list, values[name]) : read(values[name])
    }
    return { ...values, built }
  } catch (error) {
    console.error(`${option}${error.message}\n\n${help}`)
    return process.exit(2)
  }
}

/** The names in the order of the list, each once. */
function namesIn(list, value) {
  const names = value.split(',')
  if (!names.every((name) => list.includes(name))) throw new Error(`one of ${list.join(', ')}`)
  return list.filter((name) => names.includes(name))
}

export const wholeFrom = (least) => (value) => {
  const number = /^\d+$/.test(value) ? Number(value) : Number.NaN
  if (!Number.isSafeInteger(number) || number < least) throw new Error(`a whole number from ${least}`)
  return number
}

/** Aligned columns; all but the first `words` are numbers. */
export function columns(rows, words) {
  const widths = rows[0].map((_, column) => Math.max(...rows.map((row) => row[column].length)))
  const cell = (text, column) =>
    column < words ? text.padEnd(widths[column]) : text.padStart(widths[column])
  return rows.map((row) => `  ${row.map(cell).join('  ')}`.trimEnd()).join('\n')
}
