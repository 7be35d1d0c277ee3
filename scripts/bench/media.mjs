// Where the benchmark's files live: one directory in memory and one on a disk.
import { existsSync, mkdirSync, mkdtempSync, statfsSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { root } from '../steps.mjs'

/** The `f_type` values of statfs(2) that are worth a name in the report. */
const names = new Map([
  [0x01021994, 'tmpfs'],
  [0x858458f6, 'ramfs'],
  [0xef53, 'ext4'],
  [0x58465342, 'xfs'],
  [0x9123683e, 'btrfs'],
  [0x794c7630, 'overlay'],
  [0x2fc12fc1, 'zfs'],
  [0x6969, 'nfs'],
])

export function filesystem(path) {
  // Some kernels answer with the number sign-extended from 32 bits.
  const type = statfsSync(path).type >>> 0
  return names.get(type) ?? `filesystem 0x${type.toString(16)}`
}

const inMemory = (name) => name === 'tmpfs' || name === 'ramfs'

function memory() {
  if (!existsSync('/dev/shm')) return { name: 'tmpfs', skipped: 'there is no /dev/shm here' }
  const kind = filesystem('/dev/shm')
  if (kind !== 'tmpfs') return { name: 'tmpfs', skipped: `/dev/shm is ${kind}, not tmpfs` }
  return { name: 'tmpfs', filesystem: kind, parent: '/dev/shm' }
}

function disk() {
  const target = join(root, 'target')
  mkdirSync(target, { recursive: true })
  for (const parent of [tmpdir(), target]) {
    const kind = filesystem(parent)
    if (!inMemory(kind)) return { name: 'disk', filesystem: kind, parent }
  }
  return { name: 'disk', skipped: `${tmpdir()} and ${target} are both in memory` }
}

/** The media to measure on; one with `skipped` says why it is not measured, the others have a new `directory`. */
export function media() {
  return [memory(), disk()].map((medium) =>
    medium.skipped
      ? medium
      : { ...medium, directory: mkdtempSync(join(medium.parent, 'reconcile-lock-bench-')) },
  )
}
