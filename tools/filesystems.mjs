// Places for the lock file. All mounts and directories are removed when this process ends.
import { execFileSync, spawn } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout } from 'node:timers/promises'
import { root } from './steps.mjs'

/** Functions that undo the steps so far; the last one runs first. */
const undo = []

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

// Some of these commands are only in the PATH of root's shell.
const env = { ...process.env, PATH: `${process.env.PATH}:/usr/sbin:/sbin` }
const call = (command, ...args) =>
  execFileSync(command, args, { env, encoding: 'utf8', stdio: 'pipe' }).trim()
/** Elsewhere `stat` has other options. ext2, ext3 and ext4 share a magic number. */
export const filesystem = (path) =>
  process.platform === 'linux' ? call('stat', '-f', '-c', '%T', path).replace('ext2/ext3', 'ext4') : 'unknown'

/** Makes an empty directory that `cleanUp` removes. */
function makeDirectory(parent = tmpdir()) {
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

function mountTmpfs() {
  const path = makeDirectory()
  mount('tmpfs', 'mode=700', 'tmpfs', path)
  return path
}

const places = {
  tmpfs: () =>
    existsSync('/dev/shm') && filesystem('/dev/shm') === 'tmpfs' ? makeDirectory('/dev/shm') : mountTmpfs(),

  disk() {
    const target = join(root, 'target')
    mkdirSync(target, { recursive: true })
    const parent = [tmpdir(), target].find((path) => !['tmpfs', 'ramfs'].includes(filesystem(path)))
    if (!parent) throw new Error(`${tmpdir()} and the project's directory are both in memory`)
    return makeDirectory(parent)
  },

  /** The lower layer has a stale lock, so that the first take-over makes the kernel copy it up. */
  overlayfs() {
    const base = mountTmpfs()
    const [lower, upper, work, merged] = ['lower', 'upper', 'work', 'merged'].map((name) => join(base, name))
    for (const path of [lower, upper, work, merged]) mkdirSync(path)
    mkdirSync(join(lower, 'locks'))
    writeFileSync(join(lower, 'locks', '.xero-reconcile-lock.json'), 'not a record')
    mount('overlay', `lowerdir=${lower},upperdir=${upper},workdir=${work}`, 'overlay', merged)
    return join(merged, 'locks')
  },

  /** NFS 4 from a server in this kernel; a server that already runs is used and not stopped. */
  async nfs() {
    if (!/\bnfs4?$/m.test(readFileSync('/proc/filesystems', 'utf8')))
      throw new Error('this kernel has no NFS client (/proc/filesystems lists neither nfs nor nfs4)')
    const control = '/proc/fs/nfsd'
    if (!existsSync(`${control}/threads`)) mount('nfsd', 'defaults', 'nfsd', control)
    const source = join(mountTmpfs(), 'export')
    mkdirSync(source)
    // `fsid`, because a tmpfs has no identity to export.
    const options = 'rw,sync,no_root_squash,no_subtree_check,insecure,fsid=4711'
    call('exportfs', '-o', options, `127.0.0.1:${source}`)
    undo.push(() => call('exportfs', '-u', `127.0.0.1:${source}`))
    if (Number(readFileSync(`${control}/threads`, 'utf8')) === 0) {
      const mountd = spawn('rpc.mountd', ['--foreground', '-N', '3'], { env, stdio: 'ignore' })
      mountd.on('error', () => {})
      undo.push(() => mountd.kill('SIGKILL'))
      call('rpc.nfsd', '-N', '3', '4')
      undo.push(() => call('rpc.nfsd', '0'))
    }
    const path = makeDirectory()
    for (let tries = 0; ; tries += 1) {
      try {
        mount('nfs', 'vers=4.2,soft,timeo=50,retrans=2', `127.0.0.1:${source}`, path)
        return path
      } catch (error) {
        // The server may need a moment to listen.
        if (tries === 20) throw error
        await setTimeout(100)
      }
    }
  },
}

export const placeNames = Object.keys(places)

/** Opens a place; returns a directory in it and its filesystem, or why it is `skipped`. */
export async function openPlace(name) {
  try {
    const directory = await places[name]()
    const found = filesystem(directory)
    if (name !== 'disk' && found !== name) throw new Error(`${directory} is ${found}, not ${name}`)
    return { directory, filesystem: found }
  } catch (error) {
    return { skipped: String(error.stderr ?? '').trim() || error.message }
  }
}
