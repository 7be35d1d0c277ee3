// Hyphen and slash belong to a number: INV-204 is found neither in INV-2041 nor in INV-204-B.
const reference = /[\p{L}\p{N}]+(?:[-/][\p{L}\p{N}]+)*/gu
const only = new RegExp(`^(?:${reference.source})$`, 'u')

export function normalise(number: string): string {
  return number.normalize('NFC').toUpperCase()
}

/** Whether transfers can name this invoice number, so that it would be found in their text. */
export function isReference(number: string): boolean {
  return only.test(number)
}

/** Every word of a transfer's text that could be an invoice number. */
export function referencesIn(text: string): Set<string> {
  return new Set(normalise(text).match(reference) ?? [])
}
