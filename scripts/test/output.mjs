// What the runners print of their tests: Cargo, Node.js, and this project's own tools.

/** `test name ... ok <1.234s>`, by `--report-time`. */
const CARGO_TEST = /^test (\S+) \.\.\. ok <([\d.]+)s>$/gm
const CARGO_TOTAL = /^test result: \w+\. (\d+) passed; (\d+) failed; (\d+) ignored/gm
/** `✔ name (12.3ms)`, by the reporter `spec`. */
const NODE_TEST = /^\s*✔ (.+) \(([\d.]+)ms\)/gm
const NODE_TOTAL = /^ℹ (pass|fail|cancelled|skipped|todo) (\d+)$/gm
/** The last line of this project's tools. */
const OWN_TOTAL = /^(\d+) passed, (\d+) failed(?:, (\d+) skipped)?$/gm

const STATES = { pass: 'passed', fail: 'failed', cancelled: 'failed', skipped: 'skipped', todo: 'skipped' }

/**
 * Counts the tests in the output of a command.
 * @param {string} output
 * @returns {{ passed: number, failed: number, skipped: number, tests: { name: string, seconds: number }[] }}
 */
export function readOutput(output) {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: colours begin with one
  const text = output.replaceAll(/\u001b\[[\d;]*m/g, '')
  const counts = { passed: 0, failed: 0, skipped: 0 }
  for (const total of [CARGO_TOTAL, OWN_TOTAL]) {
    for (const [, passed, failed, skipped = 0] of text.matchAll(total)) {
      counts.passed += Number(passed)
      counts.failed += Number(failed)
      counts.skipped += Number(skipped)
    }
  }
  for (const [, state, count] of text.matchAll(NODE_TOTAL)) counts[STATES[state]] += Number(count)
  const cargo = [...text.matchAll(CARGO_TEST)].map(([, name, time]) => ({ name, seconds: Number(time) }))
  const node = [...text.matchAll(NODE_TEST)].map(([, name, time]) => ({ name, seconds: Number(time) / 1000 }))
  return { ...counts, tests: [...cargo, ...node] }
}
