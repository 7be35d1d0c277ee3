/**
 * The key of a lock's method that returns the descriptor by which a child inherits the kernel lock. Only the command
 * line uses it; it is not part of the public interface.
 */
export const DESCRIPTOR = Symbol('descriptor')

export interface Inheritable {
  [DESCRIPTOR]?(): number | undefined
}
