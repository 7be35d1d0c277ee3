// A release as the release script builds it: the real binary of this machine, stubs for other platforms.
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import {
  copyFileSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { currentTarget } from '../../lib/target.js'
import { copyPackage, root } from './packages.mjs'

export interface Platform {
  name: string
  package: string
  os: string
  cpu: string
  libc?: 'glibc' | 'musl'
}

export const { platformOf }: { platformOf(triple: string): Platform } = await import(
  pathToFileURL(join(root, 'tools/targets.mjs')).href
)

export const manifest: { name: string; version: string; napi: { targets: string[] } } = JSON.parse(
  readFileSync(join(root, 'package.json'), 'utf8'),
)
export const platforms = manifest.napi.targets.map(platformOf)
/** The platform that the tests run on. */
export const here = currentTarget()
export const fileOf = (name: string): string => `reconcile-lock.${name}.node`
/** The binary in the layout of `layOut()`. */
export const installedBinary = (project: string): string =>
  join(project, 'node_modules/@reconcile-lock', here, fileOf(here))
/** The file that `npm pack` makes. */
export const tarballOf = (name: string, version = manifest.version): string =>
  `${name.replace('@', '').replace('/', '-')}-${version}.tgz`

const ELF: Record<string, number> = { x64: 62, arm64: 183, arm: 40, ppc64: 21, riscv64: 243, s390x: 22 }
const MACH_O: Record<string, number> = { x64: 0x01000007, arm64: 0x0100000c }
const PE: Record<string, number> = { x64: 0x8664, arm64: 0xaa64 }

/** A library that consists of a header. */
export function madeUp({ os, cpu, libc }: Platform): Buffer {
  const bytes = Buffer.alloc(256)
  if (os === 'darwin') {
    bytes.writeUInt32LE(0xfeedfacf)
    bytes.writeUInt32LE(MACH_O[cpu] ?? 0, 4)
    bytes.writeUInt32LE(6, 12)
  } else if (os === 'win32') {
    bytes.write('MZ')
    bytes.writeUInt32LE(0x40, 0x3c)
    bytes.write('PE\0\0', 0x40)
    bytes.writeUInt16LE(PE[cpu] ?? 0, 0x44)
    bytes.writeUInt16LE(0x2000, 0x56)
  } else {
    const [isBig, isLong] = [cpu === 's390x', cpu !== 'arm']
    bytes.write(`\x7fELF${isLong ? '\x02' : '\x01'}${isBig ? '\x02' : '\x01'}\x01`, 'latin1')
    const half = (value: number, at: number) =>
      isBig ? bytes.writeUInt16BE(value, at) : bytes.writeUInt16LE(value, at)
    half(3, 0x10)
    half(ELF[cpu] ?? 0, 0x12)
    if (libc === 'glibc') bytes.write('GLIBC_2.17', 0x80)
  }
  return bytes
}

export interface Release {
  /** The main package as it is packed, with the platform packages in `npm/`. */
  home: string
  /** The directory of the tarballs. */
  packed: string
  /** The output of the script. */
  said: string
}

/** Runs the release script, and removes everything when the process ends. */
export function makeRelease(): Release {
  const temporary = mkdtempSync(join(tmpdir(), 'reconcile-lock-release-'))
  process.on('exit', () => rmSync(temporary, { recursive: true, force: true }))
  const artifacts = join(temporary, 'artifacts')
  const packed = join(temporary, 'packed')
  for (const platform of platforms) {
    const path = join(artifacts, `bindings-${platform.name}`, fileOf(platform.name))
    mkdirSync(dirname(path), { recursive: true })
    if (platform.name === here) copyFileSync(join(root, fileOf(here)), path)
    else writeFileSync(path, madeUp(platform))
  }
  const args = [join(root, 'tools/release.mjs'), '--artifacts', artifacts, '--out', packed]
  const { status, stdout, stderr } = spawnSync(process.execPath, args, { encoding: 'utf8' })
  assert.equal(status, 0, `${stdout}${stderr}`)
  return { home: join(packed, 'package'), packed, said: stdout }
}

/** Creates `node_modules` without npm; `name` is the platform whose package it contains, if any. */
export function layOut(project: string, name?: string): string {
  const home = join(project, 'node_modules/reconcile-lock')
  copyPackage(home)
  for (const file of readdirSync(home)) if (file.endsWith('.node')) rmSync(join(home, file))
  if (name !== undefined) {
    const platform = platforms.find((each) => each.name === name)
    assert.ok(platform, name)
    const directory = join(project, 'node_modules', platform.package)
    mkdirSync(directory, { recursive: true })
    const described = { name: platform.package, version: manifest.version, main: fileOf(name) }
    writeFileSync(join(directory, 'package.json'), JSON.stringify(described))
    if (name === here) copyFileSync(join(root, fileOf(here)), join(directory, fileOf(here)))
    else writeFileSync(join(directory, fileOf(name)), madeUp(platform))
  }
  return home
}
