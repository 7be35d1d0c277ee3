/** An amount in integer cents, or undefined if `text` is not one: no thousands separators, no decimal comma. */
export function parseCents(text: string): number | undefined {
  const [, sign, whole, fraction = '00'] = /^([+-]?)(\d+)(?:\.(\d\d))?$/.exec(text) ?? []
  if (whole === undefined) return undefined
  const cents = Number.parseInt(whole + fraction, 10)
  if (!Number.isSafeInteger(cents)) return undefined
  // A negative zero would not equal the zero of the other file.
  return sign === '-' ? 0 - cents : cents
}

export function formatCents(cents: number): string {
  const digits = String(Math.abs(cents)).padStart(3, '0')
  return `${cents < 0 ? '-' : ''}${digits.slice(0, -2)}.${digits.slice(-2)}`
}
