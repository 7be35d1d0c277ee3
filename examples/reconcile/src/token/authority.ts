import { randomUUID } from 'node:crypto'
import { appendFile, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout } from 'node:timers/promises'
import { codeOf } from '../errors.js'

/** The tokens for the accounting service. */
export interface Tokens {
  /** Sent with every request. */
  access: string
  /** When the access token ends, in milliseconds since the Unix epoch. */
  expiresAt: number
  /** Returns new tokens, once. */
  refresh: string
}

/** A request to the authority, with the tokens that it returns unless it refuses. */
type Request = Tokens & ({ by: 'login' } | { by: 'refresh'; used: string })

const lifetimeMs = 30 * 60_000
const latencyMs = 100

/** The login of a person. It begins a new session. */
export async function login(dir: string): Promise<Tokens> {
  const tokens = newTokens()
  await sendRequest(dir, { by: 'login', ...tokens })
  return tokens
}

/**
 * New tokens for a refresh token, or `undefined`: `invalid_grant`. A refresh token is valid once. A second use
 * may mean that it was stolen, so it ends the session, as on OAuth servers that rotate refresh tokens.
 */
export async function refresh(dir: string, used: string): Promise<Tokens | undefined> {
  const tokens = newTokens()
  const granted = await sendRequest(dir, { by: 'refresh', used, ...tokens })
  return granted.at(-1)?.access === tokens.access ? tokens : undefined
}

/** Whether the service accepts the access token: until it ends, or its session does. */
export async function accepts(dir: string, access: string): Promise<boolean> {
  const granted = session(await readRequests(dir))
  return granted.some((tokens) => tokens.access === access && tokens.expiresAt > Date.now())
}

function newTokens(): Tokens {
  return { access: randomUUID(), expiresAt: Date.now() + lifetimeMs, refresh: randomUUID() }
}

/**
 * Simulates a call of the authority, and returns the session after it. Every request is a line of
 * `authority.jsonl`: the order of the lines decides, so that simultaneous requests of several processes are
 * answered one after another.
 */
async function sendRequest(dir: string, request: Request): Promise<Tokens[]> {
  await setTimeout(latencyMs / 2)
  await appendFile(join(dir, 'authority.jsonl'), `${JSON.stringify({ pid: process.pid, ...request })}\n`)
  await setTimeout(latencyMs / 2)
  const requests = await readRequests(dir)
  return session(requests.slice(0, requests.findIndex(({ access }) => access === request.access) + 1))
}

/** The grants of the session of the last login; empty if it has ended. */
function session(requests: Request[]): Tokens[] {
  let granted: Tokens[] = []
  for (const request of requests) {
    if (request.by === 'login') granted = [request]
    else if (request.used === granted.at(-1)?.refresh) granted.push(request)
    else if (granted.some(({ refresh }) => refresh === request.used)) granted = []
  }
  return granted
}

async function readRequests(dir: string): Promise<Request[]> {
  try {
    const text = await readFile(join(dir, 'authority.jsonl'), 'utf8')
    // A last line without its end is still being written.
    const lines = text.split('\n').slice(0, -1)
    return lines.map((line) => JSON.parse(line) as Request)
  } catch (error) {
    if (codeOf(error) === 'ENOENT') return []
    throw error
  }
}
