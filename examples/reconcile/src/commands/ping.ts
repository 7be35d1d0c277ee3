import { accessToken } from '../token/access-token.js'
import { accepts } from '../token/authority.js'

/** Asks the accounting service whether it knows us. Any number of these may run at once, beside a run. */
export async function ping(dir: string): Promise<void> {
  const token = await accessToken(dir)
  if (!(await accepts(dir, token))) throw new Error('the accounting service does not accept our token')
  console.log('the accounting service accepts our token')
}
