// The native parts of the benchmark: `benches/*.rs`, built as release binaries.
import { spawnSync } from 'node:child_process'
import { root } from '../steps.mjs'

/**
 * Builds them and returns the paths of their executables by name.
 * @param {string[]} names
 * @returns {Record<string, string>}
 */
export function buildBenches(names) {
  if (names.length === 0) return {}
  const chosen = names.flatMap((name) => ['--bench', name])
  const args = ['bench', '--locked', ...chosen, '--no-run', '--message-format=json-render-diagnostics']
  console.log(`\n> cargo ${args.join(' ')}`)
  const { status, stdout, error } = spawnSync('cargo', args, {
    cwd: root,
    encoding: 'utf8',
    maxBuffer: 2 ** 28,
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  if (error) throw error
  if (status !== 0) throw new Error(`cargo ${args.join(' ')}: exit code ${status}`)
  const messages = stdout
    .split('\n')
    .filter((line) => line.startsWith('{'))
    .map((line) => JSON.parse(line))
  return Object.fromEntries(
    names.map((name) => {
      const built = messages.findLast(({ executable, target }) => executable && target?.name === name)
      if (!built) throw new Error(`cargo built no executable for the bench \`${name}\``)
      return [name, built.executable]
    }),
  )
}
