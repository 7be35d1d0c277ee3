// The floor: `benches/floor.rs`, started anew in every round.
import { execFileSync } from 'node:child_process'

/** Long enough that starting a process is not seen, and above 100 ms when the machine speeds up half-way. */
const wantedNs = 150e6

/** Returns a function that runs the floor on `path` for long enough and returns the nanoseconds of one iteration. */
export function floorOn(executable, path) {
  const each = (iterations) =>
    Number(execFileSync(executable, [path, String(iterations)], { encoding: 'utf8' })) / iterations
  const iterations = Math.ceil(wantedNs / each(1000))
  return () => each(iterations)
}
