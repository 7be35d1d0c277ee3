// The layout of Alpine, a row of the third table of docs/bundling.md. `npm run cross` runs this in a Node.js for musl.
import { copyFileSync, cpSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { machine } from 'node:os'
import { basename, dirname, join } from 'node:path'
import { test } from 'node:test'
import { directory } from '../support/directory.mjs'
import { excludes, inRoot, project } from '../support/installed-program.mjs'
import { type KnownFailure, knownFailure } from '../support/known-failure.mjs'
import { here } from '../support/release.mjs'

const NODE = '/usr/local/bin/node'
const onQemu: KnownFailure = { platform: 'qemu', why: 'the kernel starts no program for another machine' }

/** The files of this process by their place in Alpine. */
function* filesOfNode(): Generator<[from: string, to: string]> {
  const mapped = readFileSync('/proc/self/maps', 'utf8').match(/(?<= r-xp .* )\/.*(?<!\.node)$/gm)
  for (const path of new Set(mapped)) {
    const name = basename(path)
    // The loader of musl is its C library.
    const isLoader = name === 'libc.so' || name.startsWith('ld-musl-')
    yield [path, isLoader ? `/lib/ld-musl-${machine()}.so.1` : name === 'node' ? NODE : `/usr/lib/${name}`]
  }
}

test(
  'a root with the packages and Node.js, as in Alpine',
  { skip: here.endsWith('-musl') ? false : `${here} is not of musl` },
  knownFailure(onQemu, async (t) => {
    const rootOfImage = directory(t)
    for (const [from, to] of filesOfNode()) {
      mkdirSync(dirname(join(rootOfImage, to)), { recursive: true })
      copyFileSync(from, join(rootOfImage, to))
    }
    // Alpine's, which the package reads.
    mkdirSync(join(rootOfImage, 'usr/bin'))
    const ldd = '#!/bin/sh\nexec /lib/ld-musl-$(uname -m).so.1 --list -- "$@"\n'
    writeFileSync(join(rootOfImage, 'usr/bin/ldd'), ldd, { mode: 0o755 })
    cpSync(project(t), join(rootOfImage, 'app'), { recursive: true })
    const within = await inRoot(t, rootOfImage)
    if (within) await excludes(t, 'unshare', [...within, NODE, '/app/app.js'], { lock: '/lock' })
  }),
)
