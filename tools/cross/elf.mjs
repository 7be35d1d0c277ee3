// Checks the size of an addon for Linux, and what it needs from the system. `node tools/cross/elf.mjs TARGET FILE`
import { readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { output, zigLibrary } from './build.mjs'
import { assertSize, targets } from './targets.mjs'

/** The libraries of glibc, all parts of one package, and that of musl. */
const GLIBC = /^(libc\.so\.6|libpthread\.so\.0|libdl\.so\.2|ld(-linux.*|64)\.so\.\d)$/
const MUSL = /^libc\.so$/

const { compare } = new Intl.Collator('en', { numeric: true })

/** The version of glibc that a symbol names. */
const versionOf = (symbol) => symbol.split('@GLIBC_')[1]

/** The symbols of musl have no versions. */
function isOfMusl() {
  const text = readFileSync(join(zigLibrary(), 'musl/libc.S'), 'utf8')
  const names = new Set(Array.from(text.matchAll(/^(?:\.globl|\.weak|WEAK\w*) (\S+)/gm), ([, name]) => name))
  return (symbol) => names.has(symbol)
}

/** Describes an addon for Linux; throws an error if a Node.js with the oldest C library would not load it. */
export function describeElf(path, { glibc }) {
  // Independent of the language of the user.
  const env = { ...process.env, LC_ALL: 'C' }
  const text = output('readelf', ['--wide', '--dynamic', '--dyn-syms', path], env)
  const found = (pattern) => Array.from(text.matchAll(pattern), ([, name]) => name)
  const libraries = found(/\(NEEDED\).*\[(.*)\]/g)
  const needed = found(/ GLOBAL +DEFAULT +(?:\[.*\] +)?UND (\S+)/g)
  // A weak symbol may be missing, but not the version that it names.
  const weak = found(/ WEAK +DEFAULT +(?:\[.*\] +)?UND (\S+@\S+)/g)
  // Node.js itself has the functions of Node-API.
  const symbols = [...needed.filter((name) => !name.startsWith('napi_')), ...weak]
  const isOfGlibc = (symbol) => symbol.includes('@GLIBC_') && compare(versionOf(symbol), glibc) <= 0
  const isKnown = glibc === undefined ? isOfMusl() : isOfGlibc
  const expected = glibc === undefined ? MUSL : GLIBC
  const faults = [
    ...(needed.some((name) => name.startsWith('napi_')) ? [] : ['it needs no function of Node-API']),
    ...libraries.filter((name) => !expected.test(name)).map((name) => `it needs the library ${name}`),
    ...symbols.filter((symbol) => !isKnown(symbol)).map((symbol) => `it needs ${symbol}`),
  ]
  const libc = glibc === undefined ? 'musl' : `glibc ${glibc}`
  if (faults.length > 0) throw new Error(`${path} is not for ${libc}: ${faults.join('; ')}`)
  if (glibc === undefined) return 'needs musl'
  return `needs glibc ${symbols.map(versionOf).sort(compare).at(-1)}`
}

if (process.argv[1] === import.meta.filename) {
  const [name, path] = process.argv.slice(2)
  const target = targets.find((each) => each.name === name)
  if (target === undefined || path === undefined)
    throw new Error('usage: node tools/cross/elf.mjs TARGET FILE')
  console.log(`${path}: ${assertSize(path, target)} bytes, ${describeElf(resolve(path), target)}`)
}
