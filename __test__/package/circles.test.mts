// A file of the crate does not depend on one that depends on it.
import assert from 'node:assert/strict'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { test } from 'node:test'
import { root } from '../support/packages.mjs'

const src = join(root, 'src')
/** A `mod.rs` mostly exports what other files contain. */
const isLeftOut = /(^|\/)(mod|lib|tests)\.rs$|\/simulation\//

/** The files that a file names by `super::name`, `super::{name}`, `crate::name` or `crate::directory::name`. */
function dependencies(file: string): string[] {
  const text = readFileSync(join(src, file), 'utf8')
  const [code = ''] = text.replaceAll(/\/\/.*/g, '').split('#[cfg(test)]\nmod ')
  const siblings = code.matchAll(/\bsuper::(?:\{([^}]*)\}|(\w+))/g)
  const beside = [...siblings].flatMap(([, several, one]) => several?.split(/[\s,]+/) ?? [one])
  const absolute = Array.from(
    code.matchAll(/\bcrate((?:::\w+)+)/g),
    ([, path]) => path?.slice(2).split('::') ?? [],
  )
  const named = [
    ...beside.map((name) => join(dirname(file), `${name}.rs`)),
    ...absolute.flatMap(([one, two]) => [`${one}.rs`, `${one}/${two}.rs`]),
  ]
  return named.filter((path) => path !== file && existsSync(join(src, path)))
}

test('the files of the crate have no circular dependencies', () => {
  const all = readdirSync(src, { recursive: true, encoding: 'utf8' })
  const files = all.filter((file) => file.endsWith('.rs') && !isLeftOut.test(file))
  const graph = new Map(files.map((file) => [file, dependencies(file)]))
  assert.ok(graph.get('protocol/acquire.rs')?.includes('protocol/retry.rs'))
  // Removes the files that depend on no remaining file.
  for (let size = -1; size !== graph.size; ) {
    size = graph.size
    for (const [file, named] of graph) if (!named.some((each) => graph.has(each))) graph.delete(file)
  }
  assert.deepEqual([...graph.keys()], [])
})
