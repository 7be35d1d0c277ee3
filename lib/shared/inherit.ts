/**
 * The key of a lock's method that returns the descriptor by which a child inherits the kernel lock. Only the command
 * line uses it; it is not part of the public interface. Registered, because each entry point has a copy of this code.
 */
export const DESCRIPTOR: unique symbol = Symbol.for('reconcile-lock.descriptor')

export interface Inheritable {
  [DESCRIPTOR]?(): number | undefined
}
