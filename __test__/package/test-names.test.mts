// The names of the tests of Node.js and Cargo.
import assert from 'node:assert/strict'
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { root } from '../support/packages.mjs'

const MAX_WORDS = 10
/** `test`, `toolTest` and `both`; their titles are the second group, as are the functions of Rust. */
const NAMES = [
  [/\.m?ts$/, /\b(?:\w*[tT]est|both)\(\s*(['"`])((?:\\.|(?!\1)[^\\])*)\1/g],
  [/\.rs$/, /#\[test\](\s*#\[.*\])*\s*fn (\w+)/g],
] as const

test('the name of a test has at most ten words', () => {
  const names = ['__test__', 'examples/reconcile/test', 'src', 'tests', 'model'].flatMap((folder) =>
    readdirSync(join(root, folder), { recursive: true, encoding: 'utf8' }).flatMap((path) => {
      const [, pattern] = NAMES.find(([ending]) => ending.test(path)) ?? []
      if (pattern === undefined) return []
      return Array.from(
        readFileSync(join(root, folder, path), 'utf8').matchAll(pattern),
        ([, , name = '']) => name,
      )
    }),
  )
  assert.ok(names.length > 1000, `${names.length} names`)
  // What a template inserts counts as one word.
  const wordsOf = (name: string) => name.replaceAll(/\$\{[^}]*\}/g, '…').split(name.includes(' ') ? ' ' : '_')
  assert.deepEqual(
    names.filter((name) => wordsOf(name).length > MAX_WORDS),
    [],
  )
})
