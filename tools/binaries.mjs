// Reads the header of a native library.
import { readFileSync } from 'node:fs'

/**
 * @typedef {object} Binary
 * @property {number} size in bytes
 * @property {string[]} paths of the machine that built it
 * @property {string} [os] `process.platform`, or `elf` for the systems with that format
 * @property {string} [cpu] `process.arch`; `undefined` in a library for a processor without a published binary
 * @property {boolean} [isTruncated] whether the end of an ELF file is missing
 * @property {string} [glibc] the oldest version of glibc that it runs with, if it needs glibc
 */

/**
 * By the bits of an address, the order of bytes and the number of the processor.
 * @type {Record<string, string>}
 */
const ELF_CPUS = {
  '64 big 22': 's390x',
  '32 little 40': 'arm',
  '64 little 21': 'ppc64',
  '64 little 62': 'x64',
  '64 little 183': 'arm64',
  '64 little 243': 'riscv64',
}
/** @type {Record<number, string>} */
const MACH_O_CPUS = { 16777223: 'x64', 16777228: 'arm64' }
/** @type {Record<number, string>} */
const PE_MACHINES = { 34404: 'x64', 43620: 'arm64' }

const SHARED_OBJECT = { elf: 3, machO: [6, 8], pe: 0x2000 }

/**
 * @param {string} path
 * @returns {Binary}
 */
export function readBinary(path) {
  const bytes = readFileSync(path)
  return { size: bytes.length, paths: pathsIn(bytes), ...(elf(bytes) ?? machO(bytes) ?? pe(bytes)) }
}

/**
 * The newest version is the one that the library needs.
 * @param {Buffer} bytes
 */
function newestGlibc(bytes) {
  const versions = bytes.toString('latin1').match(/GLIBC_\d+(\.\d+)+/g) ?? []
  const order = new Intl.Collator('en', { numeric: true })
  const newest = versions.sort(order.compare).at(-1)
  return newest === undefined ? {} : { glibc: newest.replace('GLIBC_', '') }
}

/**
 * Paths of the machine that built it: with them no other machine can build the same bytes.
 * @param {Buffer} bytes
 */
function pathsIn(bytes) {
  const path =
    /(?:[A-Z]:\\|\/)[\w.\-/\\]*(?:\.cargo[/\\]registry|rustlib[/\\]src|(?:home|Users)[/\\])[\w.\-/\\]*/g
  return bytes.toString('latin1').match(path) ?? []
}

/** @param {Buffer} bytes */
function elf(bytes) {
  const [MAGIC, CLASS, ORDER, TYPE, MACHINE, HEADER] = [0x7f454c46, 0x04, 0x05, 0x10, 0x12, 64]
  if (bytes.length < HEADER || bytes.readUInt32BE() !== MAGIC) return undefined
  const [isLong, isBig] = [bytes[CLASS] === 2, bytes[ORDER] === 2]
  const half = (/** @type {number} */ at) => (isBig ? bytes.readUInt16BE(at) : bytes.readUInt16LE(at))
  const word = (/** @type {number} */ at) => (isBig ? bytes.readUInt32BE(at) : bytes.readUInt32LE(at))
  const long = (/** @type {number} */ at) => (isBig ? bytes.readBigUInt64BE(at) : bytes.readBigUInt64LE(at))
  if (half(TYPE) !== SHARED_OBJECT.elf) return undefined
  // The table of sections is the last thing in a file: its offset, the size of an entry, and their number.
  const end = isLong ? Number(long(0x28)) + half(0x3a) * half(0x3c) : word(0x20) + half(0x2e) * half(0x30)
  return {
    os: 'elf',
    cpu: ELF_CPUS[`${isLong ? 64 : 32} ${isBig ? 'big' : 'little'} ${half(MACHINE)}`],
    isTruncated: bytes.length < end,
    ...newestGlibc(bytes),
  }
}

/** @param {Buffer} bytes */
function machO(bytes) {
  const [MAGIC, CPU, TYPE, HEADER] = [0xfeedfacf, 0x04, 0x0c, 0x20]
  if (bytes.length < HEADER || bytes.readUInt32LE() !== MAGIC) return undefined
  if (!SHARED_OBJECT.machO.includes(bytes.readUInt32LE(TYPE))) return undefined
  return { os: 'darwin', cpu: MACH_O_CPUS[bytes.readUInt32LE(CPU)] }
}

/** @param {Buffer} bytes */
function pe(bytes) {
  const [MAGIC, HEADER_AT, HEADER] = [0x4d5a, 0x3c, 0x18]
  if (bytes.length < 0x40 || bytes.readUInt16BE() !== MAGIC) return undefined
  const at = bytes.readUInt32LE(HEADER_AT)
  if (bytes.length < at + HEADER || bytes.readUInt32BE(at) !== 0x50450000) return undefined
  if ((bytes.readUInt16LE(at + 0x16) & SHARED_OBJECT.pe) === 0) return undefined
  return { os: 'win32', cpu: PE_MACHINES[bytes.readUInt16LE(at + 4)] }
}

/**
 * Whether a library can be for that platform.
 * @param {Binary} binary
 * @param {{ os: string, cpu: string }} platform
 */
export function isFor(binary, { os, cpu }) {
  const format = os === 'darwin' || os === 'win32' ? os : 'elf'
  return binary.os === format && binary.cpu === cpu
}
