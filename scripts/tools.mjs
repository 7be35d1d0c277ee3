// The tools of `tools.txt`, installed below target/ by pip, each file checked against its hash.
import { spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, readFileSync, renameSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { root } from './steps.mjs'

const list = join(root, 'scripts/tools.txt')

/**
 * The directory of the tools' executables. Where they cannot be had, `undefined`, and the reason is printed; under
 * CI that ends the process.
 */
export function tools() {
  const version = createHash('sha256').update(readFileSync(list)).digest('hex').slice(0, 12)
  const home = join(root, 'target/tools', version)
  if (!existsSync(home)) {
    const unfinished = `${home}.${process.pid}`
    const pip = ['-m', 'pip', 'install', '--quiet', '--disable-pip-version-check', '--no-deps']
    const args = [...pip, '--only-binary', ':all:', '--require-hashes', '--target', unfinished, '-r', list]
    const { status, stderr, error } = spawnSync('python3', args, { encoding: 'utf8' })
    if (status !== 0) {
      rmSync(unfinished, { recursive: true, force: true })
      console.error(`the tools of scripts/tools.txt cannot be had: ${error?.message ?? stderr.trim()}`)
      if (process.env.CI) process.exit(1)
      return undefined
    }
    renameSync(unfinished, home)
  }
  return join(home, 'bin')
}
