// The floor: `benches/floor.rs`, built as a release binary and started anew in every round.
import { execFileSync, spawnSync } from 'node:child_process'
import { root } from '../steps.mjs'

/** Long enough that starting a process is not seen, and above 100 ms when the machine speeds up half-way. */
const wantedNs = 150e6

/** Builds the floor and returns the path of its executable. */
export function buildFloor() {
  const args = ['bench', '--bench', 'floor', '--no-run', '--message-format=json-render-diagnostics']
  console.log(`\n> cargo ${args.join(' ')}`)
  const { status, stdout, error } = spawnSync('cargo', args, {
    cwd: root,
    encoding: 'utf8',
    maxBuffer: 2 ** 28,
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  if (error) throw error
  if (status !== 0) throw new Error(`cargo ${args.join(' ')}: exit code ${status}`)
  for (const line of stdout.split('\n')) {
    if (!line.startsWith('{')) continue
    const message = JSON.parse(line)
    if (message.executable && message.target?.name === 'floor') return message.executable
  }
  throw new Error('cargo built no executable for the bench `floor`')
}

/** Returns a function that runs the floor on `path` for long enough and returns the nanoseconds of one iteration. */
export function floorOn(executable, path) {
  const each = (iterations) =>
    Number(execFileSync(executable, [path, String(iterations)], { encoding: 'utf8' })) / iterations
  const iterations = Math.ceil(wantedNs / each(1000))
  return () => each(iterations)
}
