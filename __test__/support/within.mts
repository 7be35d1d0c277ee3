import assert from 'node:assert/strict'

/**
 * Asserts that the quickest of several rounds takes less than `limit` milliseconds, and stops at the first that does.
 * A busy machine makes rounds longer, but not shorter. `measure` returns how long its round took.
 */
export async function within(
  limit: number,
  measure: (round: number) => number | Promise<number>,
  rounds = 5,
): Promise<void> {
  const took: number[] = []
  while (took.length < rounds) {
    const time = await measure(took.length)
    if (time < limit) return
    took.push(time)
  }
  assert.fail(`no round took less than ${limit} ms: ${took.map((time) => time.toFixed(1)).join(' ')} ms`)
}

/** The median, or the larger of two middle values. */
export const median = (values: number[]): number =>
  values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)] ?? Number.NaN
