import { randomUUID } from 'node:crypto'
import { appendFile, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout } from 'node:timers/promises'

/** What lets us talk to the accounting service. */
export interface Tokens {
  /** Shown with every request. */
  access: string
  /** When the access token ends, in milliseconds since the Unix epoch. */
  expiresAt: number
  /** Good for new tokens, once. */
  refresh: string
}

const lifetimeMs = 30 * 60_000
const latencyMs = 100

/**
 * Stands for the login of the accounting service. Every grant is a line of `authority.jsonl`; the tokens of the
 * last one are valid and no others. A refresh token that was used is refused, as OAuth servers do that rotate
 * them: of two refreshes at once, one ends in `undefined`.
 */
export async function refresh(dir: string, token: string): Promise<Tokens | undefined> {
  if ((await lastGrant(dir))?.refresh !== token) return undefined
  await setTimeout(latencyMs)
  if ((await lastGrant(dir))?.refresh !== token) return undefined
  return grant(dir, 'refresh')
}

/** A person's consent, which is asked for once. */
export async function login(dir: string): Promise<Tokens> {
  await setTimeout(latencyMs)
  return grant(dir, 'login')
}

/** Whether the service accepts the access token. */
export async function accepts(dir: string, access: string): Promise<boolean> {
  const last = await lastGrant(dir)
  return last?.access === access && last.expiresAt > Date.now()
}

async function grant(dir: string, by: 'login' | 'refresh'): Promise<Tokens> {
  const tokens = { access: randomUUID(), expiresAt: Date.now() + lifetimeMs, refresh: randomUUID() }
  await appendFile(join(dir, 'authority.jsonl'), `${JSON.stringify({ by, pid: process.pid, ...tokens })}\n`)
  return tokens
}

async function lastGrant(dir: string): Promise<Tokens | undefined> {
  const text = await readFile(join(dir, 'authority.jsonl'), 'utf8').catch(() => '')
  const line = text.trimEnd().split('\n').at(-1)
  return line ? (JSON.parse(line) as Tokens) : undefined
}
