/** Whether a value is a plain object, of any realm. */
export function isPlain(value: unknown): value is Record<string, unknown> {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return false
  const prototype = Object.getPrototypeOf(value)
  if (prototype === Object.prototype || prototype === null) return true
  return Object.hasOwn(prototype, 'isPrototypeOf') && Object.getPrototypeOf(prototype) === null
}
