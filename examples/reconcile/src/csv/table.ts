import { readFile } from 'node:fs/promises'
import { basename } from 'node:path'
import { DataError } from '../errors.js'
import { parseCsv } from './parse.js'

/** A row by column name, and `fail` to refuse it with its place in the file. */
export interface Entry<Column extends string> {
  values: Record<Column, string>
  fail(problem: string): never
}

/** The rows below a header that must name exactly `columns`, in any order. */
export function parseTable<Column extends string>(
  text: string,
  source: string,
  columns: readonly Column[],
): Entry<Column>[] {
  const [header, ...rows] = parseCsv(text, source)
  if (!header) throw new DataError(`${source}:1: the file is empty`)
  const places = columns.map((column) => header.fields.indexOf(column))
  if (places.includes(-1) || header.fields.length !== columns.length)
    throw new DataError(`${source}:${header.line}: the header must name the columns ${columns.join(', ')}`)
  return rows.map(({ line, fields }) => {
    const fail = (problem: string): never => {
      throw new DataError(`${source}:${line}: ${problem}`)
    }
    if (fields.length !== columns.length) fail(`${fields.length} fields instead of ${columns.length}`)
    const pairs = columns.map((column, index) => [column, (fields[places[index] ?? -1] ?? '').trim()])
    return { values: Object.fromEntries(pairs) as Record<Column, string>, fail }
  })
}

/** Reads a CSV file of valid UTF-8; other encodings would change names without an error. */
export async function readText(path: string): Promise<string> {
  const bytes = await readFile(path)
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes)
  } catch {
    throw new DataError(`${basename(path)}: not valid UTF-8`)
  }
}
