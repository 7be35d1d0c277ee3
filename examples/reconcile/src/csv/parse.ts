import { DataError } from '../errors.js'

export interface Row {
  /** The line of the file on which the row starts, from 1. */
  line: number
  fields: string[]
}

// One field and its end: a comma, a line break or the end of the text.
const field = /(?:"([^"]*(?:""[^"]*)*)"|([^",\r\n]*))(,|\r?\n|$)/y

/** The rows of a CSV text by RFC 4180, without empty lines. */
export function parseCsv(text: string, source: string): Row[] {
  const rows: Row[] = []
  const start = text.startsWith('\uFEFF') ? 1 : 0
  let line = 1
  let row: Row = { line, fields: [] }
  field.lastIndex = start
  while (field.lastIndex < text.length || row.fields.length > 0) {
    const at = field.lastIndex
    const match = field.exec(text)
    if (!match) throw new DataError(`${source}:${line}: ${complaint(text, at)}`)
    const [whole, quoted, plain = '', end] = match
    row.fields.push(quoted === undefined ? plain : quoted.replaceAll('""', '"'))
    line += whole.split('\n').length - 1
    if (end === ',') continue
    const empty = row.fields.length === 1 && quoted === undefined && plain === ''
    if (!empty) rows.push(row)
    row = { line, fields: [] }
  }
  return rows
}

function complaint(text: string, at: number): string {
  if (text[at] !== '"') return 'a quote or a bare carriage return in a field that is not quoted'
  const closed = /"[^"]*(?:""[^"]*)*"/y
  closed.lastIndex = at
  return closed.test(text) ? 'text after the closing quote of a field' : 'a quoted field is never closed'
}
