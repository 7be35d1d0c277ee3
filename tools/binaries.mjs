// Reads the header of a native library.
import { closeSync, fstatSync, openSync, readFileSync, readSync } from 'node:fs'

/**
 * @typedef {object} Binary
 * @property {number} size in bytes
 * @property {string} [os] `process.platform`, or `elf` for the systems with that format
 * @property {string} [cpu] `process.arch`; `undefined` in a library for a processor that is not listed here
 * @property {string} [glibc] the oldest version of glibc that it runs with, if it needs glibc
 */

/** @type {Record<number, string>} */
const ELF_MACHINES = { 3: 'ia32', 40: 'arm', 62: 'x64', 183: 'arm64', 243: 'riscv64' }
/** @type {Record<number, string>} */
const MACH_O_CPUS = { 16777223: 'x64', 16777228: 'arm64' }
/** @type {Record<number, string>} */
const PE_MACHINES = { 332: 'ia32', 34404: 'x64', 43620: 'arm64' }

const SHARED_OBJECT = { elf: 3, machO: [6, 8], pe: 0x2000 }

/**
 * @param {string} path
 * @returns {Binary}
 */
export function readBinary(path) {
  const bytes = readFileSync(path)
  return { size: bytes.length, ...(elf(bytes) ?? machO(bytes) ?? pe(bytes)) }
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

/** @param {Buffer} bytes */
function elf(bytes) {
  const [MAGIC, TYPE, MACHINE, HEADER] = [0x7f454c46, 0x10, 0x12, 0x34]
  if (bytes.length < HEADER || bytes.readUInt32BE() !== MAGIC) return undefined
  if (bytes.readUInt16LE(TYPE) !== SHARED_OBJECT.elf) return undefined
  return { os: 'elf', cpu: ELF_MACHINES[bytes.readUInt16LE(MACHINE)], ...newestGlibc(bytes) }
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

/** The start of the header of a 64-bit, little-endian ELF file, its size, and the offsets of its section fields. */
const ELF_MAGIC = Buffer.from('\x7fELF\x02\x01', 'latin1')
const ELF_HEADER = 64
const SECTIONS_AT = 0x28
const SECTION_SIZE = 0x3a
const SECTION_COUNT = 0x3c

/**
 * The table of sections is the last thing in an ELF file.
 * @param {string} path
 */
export function isTruncated(path) {
  const file = openSync(path, 'r')
  try {
    const header = Buffer.alloc(ELF_HEADER)
    if (readSync(file, header) < ELF_HEADER || !header.subarray(0, ELF_MAGIC.length).equals(ELF_MAGIC))
      return false
    const sections = header.readUInt16LE(SECTION_SIZE) * header.readUInt16LE(SECTION_COUNT)
    return fstatSync(file).size < Number(header.readBigUInt64LE(SECTIONS_AT)) + sections
  } finally {
    closeSync(file)
  }
}
