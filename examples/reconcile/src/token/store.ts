import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { codeOf, DataError } from '../errors.js'
import { replaceFile } from '../state/durable.js'
import type { Tokens } from './authority.js'

const path = (dir: string) => join(dir, 'token.json')

/** The tokens of the last grant that was stored; `undefined` before the first. */
export async function readTokens(dir: string): Promise<Tokens | undefined> {
  let text: string
  try {
    text = await readFile(path(dir), 'utf8')
  } catch (error) {
    if (codeOf(error) === 'ENOENT') return undefined
    throw error
  }
  const tokens = parse(text)
  const { access, expiresAt, refresh } = tokens ?? {}
  if (typeof access !== 'string' || typeof refresh !== 'string' || typeof expiresAt !== 'number')
    throw new DataError('token.json: not a token; remove it to log in again')
  return { access, expiresAt, refresh }
}

function parse(text: string): Partial<Tokens> | undefined {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

/** For the holder of the refresh lock only. */
export async function writeTokens(dir: string, tokens: Tokens): Promise<void> {
  await replaceFile(path(dir), `${JSON.stringify(tokens, null, 2)}\n`)
}
