// The hashes that one job of the workflows hands to the next one, as its output. `node tools/hashes.mjs FILE…` prints
// them, `node tools/hashes.mjs --check FILE…` compares the files with those in the environment, `HASHES`.
import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { basename } from 'node:path'

/**
 * `NAME:SHA256` of each file, in a line.
 * @param {[name: string, content: Buffer][]} files
 */
const printed = (files) =>
  files.map(([name, content]) => `${name}:${createHash('sha256').update(content).digest('hex')}`).join(' ')

/** @param {string} text */
const hashesIn = (text) => text.match(/[\w.@-]+:[\da-f]{64}/g) ?? []

/**
 * The files without their hash in a text.
 * @param {[name: string, content: Buffer][]} files
 * @param {string} text
 */
export function unexpected(files, text) {
  const expected = hashesIn(text)
  const found = files.map((file) => printed([file])).filter((each) => !expected.includes(each))
  return found.map((each) => `not built by this workflow: ${each}`)
}

/**
 * These, and the hashes in the text without a file.
 * @param {[name: string, content: Buffer][]} files
 * @param {string} text
 */
export function differences(files, text) {
  const found = files.map((file) => printed([file]))
  const missing = hashesIn(text).filter((each) => !found.includes(each))
  return [...unexpected(files, text), ...missing.map((each) => `missing: ${each}`)]
}

if (process.argv[1] === import.meta.filename) {
  const [option, ...rest] = process.argv.slice(2)
  const paths = option === '--check' ? rest : process.argv.slice(2)
  const files = paths.map((path) => [basename(path), readFileSync(path)])
  if (option !== '--check') console.log(printed(files))
  else {
    const faults = differences(files, process.env.HASHES ?? '')
    if (files.length === 0) faults.push('no files were given')
    for (const fault of faults) console.error(fault)
    process.exitCode = faults.length === 0 ? 0 : 1
  }
}
