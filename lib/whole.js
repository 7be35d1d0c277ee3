'use strict'

const { closeSync, existsSync, fstatSync, openSync, readSync } = require('node:fs')
const { join } = require('node:path')

/**
 * The binary for this machine, on Linux, if there is one. With those for both C libraries it may be the wrong one.
 * @returns {string | undefined} its path
 */
function binaryHere() {
  if (process.platform !== 'linux') return undefined
  for (const libc of ['gnu', 'musl']) {
    const local = join(__dirname, `../reconcile-lock.linux-${process.arch}-${libc}.node`)
    const path = existsSync(local) ? local : installedAs(`reconcile-lock-linux-${process.arch}-${libc}`)
    if (path !== undefined) return path
  }
  return undefined
}

/** @param {string} name of a package */
function installedAs(name) {
  try {
    return require.resolve(name)
  } catch {
    return undefined
  }
}

/** How the header of a 64-bit, little-endian ELF file begins, its size, and where it tells of the sections. */
const MAGIC = Buffer.from('\x7fELF\x02\x01', 'latin1')
const HEADER = 64
const SECTIONS_AT = 0x28
const SECTION_SIZE = 0x3a
const SECTION_COUNT = 0x3c

/**
 * The table of sections is the last thing in an ELF file.
 * @param {string} path
 */
function isCutOff(path) {
  /** @type {number} */
  let file
  try {
    file = openSync(path, 'r')
  } catch {
    return false
  }
  try {
    const header = Buffer.alloc(HEADER)
    if (readSync(file, header) < HEADER || !header.subarray(0, MAGIC.length).equals(MAGIC)) return false
    const sections = header.readUInt16LE(SECTION_SIZE) * header.readUInt16LE(SECTION_COUNT)
    return fstatSync(file).size < Number(header.readBigUInt64LE(SECTIONS_AT)) + sections
  } finally {
    closeSync(file)
  }
}

module.exports = { binaryHere, isCutOff }
