import { createHash } from 'node:crypto'

/**
 * The key of the advisory lock: the first eight bytes of the SHA-256 of `reconcile-lock:NAME` in UTF-8, as a signed
 * big-endian integer. In SQL (PostgreSQL 11 and newer):
 *
 * `SELECT ('x' || left(encode(sha256('reconcile-lock:NAME'), 'hex'), 16))::bit(64)::bigint`
 */
export function lockKey(name: string): bigint {
  return createHash('sha256').update(`reconcile-lock:${name}`).digest().readBigInt64BE()
}

/** The key of the turn: a call that waits for readers holds it, and readers wait for it. */
export function turnKey(name: string): bigint {
  return createHash('sha256').update(`reconcile-lock-turn:${name}`).digest().readBigInt64BE()
}

/** The two halves in which `pg_locks` shows a key. */
export function halves(key: bigint): [classid: string, objid: string] {
  const bits = BigInt.asUintN(64, key)
  return [String(bits >> 32n), String(bits & 0xffffffffn)]
}
