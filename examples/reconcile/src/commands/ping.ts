import { checkAccess } from '../accounting.js'
import { accessToken } from '../token/access-token.js'

/** Asks the accounting service whether it knows us. Any number of these may run at once, beside a run. */
export async function ping(dir: string): Promise<void> {
  await checkAccess(dir, await accessToken(dir))
  console.log('the accounting service accepts our token')
}
