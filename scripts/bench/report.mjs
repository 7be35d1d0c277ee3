// What is printed: a table per medium and the targets with what was reached.

/** The targets of the issue. `of` and `to` name a row as operation and contender. */
const targets = [
  {
    name: 'sync pair <= 1.6 x floor',
    media: ['tmpfs', 'disk'],
    of: 'pair acquireLockSync',
    to: 'floor',
    most: 1.6,
  },
  {
    name: 'refused sync <= 1.0 x floor',
    media: ['tmpfs', 'disk'],
    of: 'refused acquireLockSync',
    to: 'floor',
    most: 1,
  },
  { name: 'async pair <= 8 x floor', media: ['tmpfs'], of: 'pair acquireLock', to: 'floor', most: 8 },
  {
    name: "async pair <= 0.6 x original's",
    media: ['tmpfs', 'disk'],
    of: 'pair acquireLock',
    to: 'pair original (TypeScript)',
    most: 0.6,
  },
  {
    name: 'sync pair >= 2 x faster than proper-lockfile sync',
    media: ['tmpfs', 'disk'],
    of: 'pair proper-lockfile sync',
    to: 'pair acquireLockSync',
    least: 2,
  },
]

export function median(values) {
  const sorted = values.toSorted((a, b) => a - b)
  const middle = sorted.length >> 1
  return sorted.length % 2 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2
}

const find = (results, medium, row) =>
  results.find(
    (result) => result.medium === medium && [result.operation, result.name].join(' ').trim() === row,
  )

/** Compares the results with the targets; a medium that was skipped decides nothing. */
export function judge(results) {
  return targets.flatMap(({ name, media, of, to, most, least }) =>
    media.map((medium) => {
      const [a, b] = [find(results, medium, of), find(results, medium, to)]
      if (!a || !b) return { name, medium, verdict: 'skipped' }
      const measured = a.medianNs / b.medianNs
      const reached = most === undefined ? measured >= least : measured <= most
      return { name, medium, measured, verdict: reached ? 'reached' : 'missed' }
    }),
  )
}

function columns(rows) {
  const widths = rows[0].map((_, column) => Math.max(...rows.map((row) => row[column].length)))
  const line = (row) =>
    row.map((cell, column) => (column < 2 ? cell.padEnd(widths[column]) : cell.padStart(widths[column])))
  return rows.map((row) => `  ${line(row).join('  ')}`.trimEnd()).join('\n')
}

const operations = { '': '', pair: 'acquire + release', refused: 'refused acquire' }
const whole = (value) => Math.round(value).toLocaleString('en-US')

/** The table of one medium as text. */
export function table(results, medium) {
  const head = ['operation', 'contender', 'median ns', 'min ns', 'x floor']
  const rows = results
    .filter((result) => result.medium === medium)
    .map((result) => [
      operations[result.operation],
      result.name,
      whole(result.medianNs),
      whole(result.minNs),
      result.ratio.toFixed(2),
    ])
  return columns([head, ...rows])
}

/** The targets as text. */
export function verdicts(judged) {
  const head = ['target', 'on', 'measured', '']
  const rows = judged.map(({ name, medium, measured, verdict }) => [
    name,
    medium,
    measured?.toFixed(3) ?? '-',
    verdict,
  ])
  return columns([head, ...rows])
}
