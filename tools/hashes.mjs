// The hashes that one job of the workflows hands to the next one, as its output. `node tools/hashes.mjs FILE…` prints
// them, `node tools/hashes.mjs --check FILE…` compares the files with those in the environment, `HASHES`.
import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { basename } from 'node:path'

/** `NAME:SHA256` of a file. */
const hashOf = ([name, content]) => `${name}:${createHash('sha256').update(content).digest('hex')}`

/** The differences between files and the hashes in a text, of which only those of names with this ending count. */
export function differences(files, text, ending = '') {
  const found = files.map(hashOf)
  const all = text.match(/[\w.@-]+:[\da-f]{64}/g) ?? []
  const expected = all.filter((hash) => hash.includes(`${ending}:`))
  return [
    ...found.filter((hash) => !expected.includes(hash)).map((hash) => `not built by this workflow: ${hash}`),
    ...expected.filter((hash) => !found.includes(hash)).map((hash) => `missing: ${hash}`),
  ]
}

if (process.argv[1] === import.meta.filename) {
  const isCheck = process.argv[2] === '--check'
  const paths = process.argv.slice(isCheck ? 3 : 2)
  const files = paths.map((path) => [basename(path), readFileSync(path)])
  const faults = isCheck ? differences(files, process.env.HASHES ?? '') : []
  for (const fault of faults) console.error(fault)
  if (!isCheck) console.log(files.map(hashOf).join(' '))
  process.exitCode = faults.length === 0 ? 0 : 1
}
