// How figures are printed.

export const whole = (value) => Math.round(value).toLocaleString('en-US')

/** Nanoseconds as microseconds. */
export const micro = (nanoseconds) =>
  (nanoseconds / 1000).toLocaleString('en-US', { minimumFractionDigits: 1, maximumFractionDigits: 1 })

/**
 * Aligned columns; all but the first `words` are numbers.
 * @param {string[][]} rows
 * @param {number} words
 */
export function columns(rows, words) {
  const widths = rows[0].map((_, column) => Math.max(...rows.map((row) => row[column].length)))
  const cell = (text, column) =>
    column < words ? text.padEnd(widths[column]) : text.padStart(widths[column])
  return rows.map((row) => `  ${row.map(cell).join('  ')}`.trimEnd()).join('\n')
}

/** The targets as text. */
export function verdicts(judged) {
  const head = ['target', 'on', 'verdict', 'measured']
  const rows = judged.map(({ name, medium, measured, verdict, reason }) => [
    name,
    medium,
    verdict,
    measured?.toFixed(3) ?? `(${reason})`,
  ])
  return columns([head, ...rows], 3)
}
