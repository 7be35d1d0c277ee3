import { randomUUID } from 'node:crypto'
import { appendFile, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout } from 'node:timers/promises'
import { codeOf } from '../errors.js'

/** What lets us talk to the accounting service. */
export interface Tokens {
  /** Shown with every request. */
  access: string
  /** When the access token ends, in milliseconds since the Unix epoch. */
  expiresAt: number
  /** Good for new tokens, once. */
  refresh: string
}

/** What the authority was asked, with the tokens that it gives unless it refuses. */
type Request = Tokens & ({ by: 'login' } | { by: 'refresh'; used: string })

const lifetimeMs = 30 * 60_000
const latencyMs = 100

/** A person's consent, which is asked for once. Begins a new session. */
export async function login(dir: string): Promise<Tokens> {
  const tokens = newTokens()
  await ask(dir, { by: 'login', ...tokens })
  return tokens
}

/**
 * New tokens for a refresh token, or `undefined`: `invalid_grant`. A refresh token is good once. If it comes
 * again, one of the two who have it may have stolen it: the session ends for both, as at OAuth servers that
 * rotate them.
 */
export async function refresh(dir: string, used: string): Promise<Tokens | undefined> {
  const tokens = newTokens()
  const granted = await ask(dir, { by: 'refresh', used, ...tokens })
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
 * Stands for a call of the authority, and gives the session right after it. Every request is a line of
 * `authority.jsonl`: the order of the lines decides, so that simultaneous requests of several processes are
 * answered one after another.
 */
async function ask(dir: string, request: Request): Promise<Tokens[]> {
  await setTimeout(latencyMs / 2)
  await appendFile(join(dir, 'authority.jsonl'), `${JSON.stringify({ pid: process.pid, ...request })}\n`)
  await setTimeout(latencyMs / 2)
  const requests = await readRequests(dir)
  return session(requests.slice(0, requests.findIndex(({ access }) => access === request.access) + 1))
}

/** All that the session of the last login has been granted; nothing if it was ended. */
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
