import { withLock } from 'reconcile-lock'
import { login, refresh, type Tokens } from './authority.js'
import { readTokens, writeTokens } from './store.js'

/** A token that ends sooner might expire before it is used. */
const spareMs = 60_000

/**
 * A token for the accounting service, a new one if the stored one is about to end. Commands that do not exclude
 * each other need it too, and a refresh token is valid once. So one of them refreshes, and the others wait for it.
 */
export async function accessToken(dir: string): Promise<string> {
  const stored = usable(await readTokens(dir))
  if (stored) return stored
  return withLock(() => renewed(dir), {
    cwd: dir,
    file: '.xero-token-refresh.lock',
    message: 'Token refresh already in progress',
    timeout: 10_000,
  })
}

async function renewed(dir: string): Promise<string> {
  const tokens = await readTokens(dir)
  // The previous holder of the lock may have done it.
  const stored = usable(tokens)
  if (stored) return stored
  let granted = tokens && (await refresh(dir, tokens.refresh))
  if (tokens && !granted) console.error('the refresh token was refused (invalid_grant): logged in again')
  granted ??= await login(dir)
  await writeTokens(dir, granted)
  return granted.access
}

const usable = (tokens: Tokens | undefined) =>
  tokens && tokens.expiresAt - spareMs > Date.now() ? tokens.access : undefined
