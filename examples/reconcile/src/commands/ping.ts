import { checkAccess } from '../accounting.js'
import { accessToken } from '../token/access-token.js'

/** Checks the login at the accounting service. Several commands may do so at the same time, also during a run. */
export async function ping(dir: string): Promise<void> {
  await checkAccess(dir, await accessToken(dir))
  console.log('the accounting service accepts our token')
}
