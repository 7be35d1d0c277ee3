// Places for the lock file. All mounts and directories are removed when this process ends.
import { execFileSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { root } from './steps.mjs'

/** Functions that undo the steps so far; the last one runs first. */
const undo = []

// A process that a signal ends emits no `exit`.
process.on('exit', cleanUp)
for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => process.exit(1))

/** Undoes all steps, even if one fails. */
export function cleanUp() {
  while (undo.length > 0) {
    try {
      undo.pop()()
    } catch (error) {
      console.error(`cleaning up: ${error.message}`)
    }
  }
}

const call = (command, ...args) => execFileSync(command, args, { encoding: 'utf8', stdio: 'pipe' }).trim()

/** Elsewhere `stat` has other options. ext2, ext3 and ext4 share a magic number. */
export const filesystem = (path) =>
  process.platform === 'linux' ? call('stat', '-f', '-c', '%T', path).replace('ext2/ext3', 'ext4') : 'unknown'

/** Makes an empty directory that `cleanUp` removes. */
export function makeDirectory(parent = tmpdir()) {
  const path = mkdtempSync(join(parent, 'reconcile-lock-'))
  // Processes that were just killed may still write.
  undo.push(() => rmSync(path, { recursive: true, force: true, maxRetries: 10 }))
  return path
}

function mount(type, options, source, path) {
  call('mount', '-t', type, '-o', options, source, path)
  // Lazily, because processes that were just killed may keep the mount busy.
  undo.push(() => call('umount', '-l', path))
}

const places = {
  tmpfs: () => makeDirectory('/dev/shm'),

  disk() {
    const target = join(root, 'target')
    mkdirSync(target, { recursive: true })
    const parent = [tmpdir(), target].find((path) => !['tmpfs', 'ramfs'].includes(filesystem(path)))
    if (!parent) throw new Error(`${tmpdir()} and the project's directory are both in memory`)
    return makeDirectory(parent)
  },

  /** The lower layer has a stale lock, so that the first take-over makes the kernel copy it up. */
  overlayfs() {
    const base = makeDirectory()
    mount('tmpfs', 'mode=700', 'tmpfs', base)
    const [lower, upper, work, merged] = ['lower', 'upper', 'work', 'merged'].map((name) => join(base, name))
    for (const path of [lower, upper, work, merged]) mkdirSync(path)
    mkdirSync(join(lower, 'locks'))
    writeFileSync(join(lower, 'locks', '.xero-reconcile-lock.json'), 'not a record')
    mount('overlay', `lowerdir=${lower},upperdir=${upper},workdir=${work}`, 'overlay', merged)
    return join(merged, 'locks')
  },

  nfs() {
    const { RECONCILE_TEST_NFS: parent } = process.env
    if (!parent) throw new Error('RECONCILE_TEST_NFS names no directory on NFS')
    return makeDirectory(parent)
  },
}

export const placeNames = Object.keys(places)

/** Opens a place; returns a directory in it and its filesystem, or why it is `skipped`. */
export function openPlace(name) {
  try {
    const directory = places[name]()
    const found = filesystem(directory)
    if (name !== 'disk' && found !== name) throw new Error(`${directory} is ${found}, not ${name}`)
    return { directory, filesystem: found }
  } catch (error) {
    return { skipped: String(error.stderr ?? '').trim() || error.message }
  }
}
