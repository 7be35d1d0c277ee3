/**
 * The key of a lock's method that returns the descriptor by which a child inherits the kernel lock. For the command line
 * alone: it is no part of the public interface.
 */
export const DESCRIPTOR = Symbol('descriptor')

export interface Inheritable {
  [DESCRIPTOR]?(): number | undefined
}
