// Where the lock file lives. What is mounted or made here is gone when this process ends, however it ends.
import { execFileSync, spawn } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout } from 'node:timers/promises'
import { root } from './steps.mjs'

/** What undoes the steps so far, the last one first. */
const undo = []

/** Undoes everything; every step is tried. */
export function cleanUp() {
  while (undo.length > 0) {
    try {
      undo.pop()()
    } catch (error) {
      console.error(`cleaning up: ${error.message}`)
    }
  }
}

// Some of these commands are where only root's shell looks.
const env = { ...process.env, PATH: `${process.env.PATH}:/usr/sbin:/sbin` }
const call = (command, ...args) =>
  execFileSync(command, args, { env, encoding: 'utf8', stdio: 'pipe' }).trim()
// They share a number.
export const filesystem = (path) => call('stat', '-f', '-c', '%T', path).replace('ext2/ext3', 'ext4')
const inMemory = (path) => ['tmpfs', 'ramfs'].includes(filesystem(path))

/** An empty directory that will be removed. */
export function makeDirectory(parent = tmpdir()) {
  const path = mkdtempSync(join(parent, 'reconcile-lock-'))
  // Those that were killed just now may still write.
  undo.push(() => rmSync(path, { recursive: true, force: true, maxRetries: 10 }))
  return path
}

const asRoot = () => process.getuid?.() === 0
const pause = (milliseconds) => Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, milliseconds)

/** Those that were killed just now may keep it busy for a moment. */
function unmount(path) {
  for (let tries = 0; tries < 50; tries += 1) {
    try {
      call('umount', path)
      return
    } catch {
      pause(100)
    }
  }
  call('umount', '-l', path)
}

function mount(type, options, source, path) {
  call('mount', '-t', type, '-o', options, source, path)
  undo.push(() => unmount(path))
}

function mountedTmpfs() {
  const path = makeDirectory()
  mount('tmpfs', 'mode=700', 'tmpfs', path)
  return path
}

function tmpfs() {
  if (existsSync('/dev/shm') && filesystem('/dev/shm') === 'tmpfs') return makeDirectory('/dev/shm')
  if (!asRoot()) throw new Error('/dev/shm is no tmpfs, and mounting one needs root')
  return mountedTmpfs()
}

function disk() {
  const target = join(root, 'target')
  mkdirSync(target, { recursive: true })
  const parent = [tmpdir(), target].find((path) => !inMemory(path))
  if (!parent) throw new Error(`${tmpdir()} and the project's directory are both in memory`)
  return makeDirectory(parent)
}

/** The lower layer has a stale lock, so that the first to take it over makes the kernel copy it up. */
function overlayfs() {
  if (!asRoot()) throw new Error('mounting needs root')
  const base = mountedTmpfs()
  const [lower, upper, work, merged] = ['lower', 'upper', 'work', 'merged'].map((name) => join(base, name))
  for (const path of [lower, upper, work, merged]) mkdirSync(path)
  mkdirSync(join(lower, 'locks'))
  writeFileSync(join(lower, 'locks', '.xero-reconcile-lock.json'), 'not a record')
  mount('overlay', `lowerdir=${lower},upperdir=${upper},workdir=${work}`, 'overlay', merged)
  return join(merged, 'locks')
}

const isCommand = (name) => env.PATH.split(':').some((directory) => existsSync(join(directory, name)))

/** Why this machine cannot mount NFS from itself; `undefined` if it may. */
function missingForNfs() {
  if (!asRoot()) return 'mounting needs root'
  const known = readFileSync('/proc/filesystems', 'utf8').split(/\s+/)
  if (!known.includes('nfs') && !known.includes('nfs4'))
    return 'this kernel has no NFS client (/proc/filesystems lists neither nfs nor nfs4)'
  const missing = ['exportfs', 'rpc.nfsd', 'rpc.mountd', 'mount.nfs'].filter((name) => !isCommand(name))
  return missing.length > 0 ? `not installed: ${missing.join(', ')}` : undefined
}

/** NFS 4 from a server in this kernel; a server that runs already is used and left alone. */
async function nfs() {
  const missing = missingForNfs()
  if (missing) throw new Error(missing)
  const control = '/proc/fs/nfsd'
  if (!existsSync(`${control}/threads`)) mount('nfsd', 'defaults', 'nfsd', control)
  const source = join(mountedTmpfs(), 'export')
  mkdirSync(source)
  // A tmpfs has no identity of its own to export.
  call('exportfs', '-o', 'rw,sync,no_root_squash,no_subtree_check,insecure,fsid=4711', `127.0.0.1:${source}`)
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
}

const places = {
  tmpfs: [tmpfs, 'tmpfs'],
  disk: [disk],
  overlayfs: [overlayfs, 'overlayfs'],
  nfs: [nfs, 'nfs'],
}

export const placeNames = Object.keys(places)

/**
 * A directory in such a place, or why there is none.
 * @param {string} name
 * @returns {Promise<{ directory: string, filesystem: string } | { skipped: string }>}
 */
export async function openPlace(name) {
  const [open, expected] = places[name]
  try {
    const directory = await open()
    const found = filesystem(directory)
    if (expected && found !== expected) throw new Error(`${directory} is ${found}, not ${expected}`)
    return { directory, filesystem: found }
  } catch (error) {
    const reason = String(error.stderr ?? '').trim() || error.message
    cleanUp()
    return { skipped: reason }
  }
}
