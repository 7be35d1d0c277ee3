import { createHash } from 'node:crypto'

/**
 * The key of a lock's advisory lock: the first eight bytes of the SHA-256 of `reconcile-lock:NAME` in UTF-8, as a
 * signed number, the highest byte first. In SQL (PostgreSQL 11 and newer):
 *
 * `SELECT ('x' || left(encode(sha256('reconcile-lock:NAME'), 'hex'), 16))::bit(64)::bigint`
 */
export function lockKey(name: string): bigint {
  return createHash('sha256').update(`reconcile-lock:${name}`).digest().readBigInt64BE()
}

/** How `pg_locks` shows such a key: in two halves. */
export function halves(key: bigint): [classid: string, objid: string] {
  const bits = BigInt.asUintN(64, key)
  return [String(bits >> 32n), String(bits & 0xffffffffn)]
}
