// Contenders take turns, so that a noisy spell hits all of them.
import { setImmediate } from 'node:timers/promises'

function show(text) {
  if (process.stderr.isTTY) process.stderr.write(`\r\x1b[K${text}`)
}

/**
 * Whether a contender that wants `times` of `rounds` takes part in this one; evenly spread. The round before the
 * first is for those who are in every one.
 */
function takesPart(round, rounds, times) {
  if (round < 0) return times === rounds
  return Math.floor(((round + 1) * times) / rounds) > Math.floor((round * times) / rounds)
}

/**
 * Samples every contender `times` times, or once a round.
 * @param {{ sample: () => Promise<number>, times?: number }[]} contenders
 * @param {number} rounds
 * @returns {Promise<number[][]>} the samples of each
 */
export async function takeTurns(contenders, rounds) {
  const samples = contenders.map(() => [])
  // The round -1 is for the compilers, the caches and the thread pool.
  for (let round = -1; round < rounds; round += 1) {
    show(`round ${round + 1} of ${rounds}`)
    for (let turn = 0; turn < contenders.length; turn += 1) {
      // Each round starts elsewhere and every other one runs backwards: nobody always follows the same neighbour.
      const step = round % 2 ? contenders.length - 1 - turn : turn
      const index = (step + Math.max(round, 0)) % contenders.length
      const { sample, times = rounds } = contenders[index]
      if (!takesPart(round, rounds, times)) continue
      const value = await sample()
      if (round >= 0) samples[index].push(value)
      // What a contender leaves to the event loop is not charged to the next one.
      await setImmediate()
    }
  }
  show('')
  return samples
}
