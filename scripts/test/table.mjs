// The end of a run: where the time went, and what the tests came to.

/** @typedef {import('./run.mjs').Result} Result */

/**
 * The stages with seconds and tests, the ten longest tests, and the line with the sums.
 * @param {Result[]} results
 */
export function table(results) {
  const width = Math.max(...results.map(({ name }) => name.length), 'the ten longest tests'.length)
  const row = (name, seconds, rest) => `${name.padEnd(width)} ${seconds.padStart(9)} ${rest}`.trimEnd()
  const sum = (/** @type {'seconds' | 'passed' | 'failed' | 'skipped'} */ key) =>
    results.reduce((total, each) => total + each[key], 0)
  const longest = results
    .flatMap(({ name, longest }) => longest.map((test) => ({ ...test, stage: name })))
    .toSorted((a, b) => b.seconds - a.seconds)
    .slice(0, 10)
  return [
    row('stage', 'seconds', '  tests'),
    ...results.map((each) => row(each.name, each.seconds.toFixed(1), testsOf(each))),
    row('all', sum('seconds').toFixed(1), String(sum('passed')).padStart(7)),
    '',
    row('the ten longest tests', 'seconds', ''),
    ...longest.map(({ name, seconds, stage }) => `${seconds.toFixed(1).padStart(9)} ${name} (${stage})`),
    '',
    `${sum('passed')} passed, ${sum('failed')} failed, ${sum('skipped')} skipped`,
  ].join('\n')
}

function testsOf({ passed, failed, skipped }) {
  if (passed + failed + skipped === 0) return '      -'
  const others = [failed > 0 && `${failed} FAILED`, skipped > 0 && `${skipped} skipped`].filter(Boolean)
  return [String(passed).padStart(7), ...others].join(', ')
}
