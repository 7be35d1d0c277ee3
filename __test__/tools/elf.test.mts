// tools/cross/elf.mjs finds each of these faults in a library that the C compiler of this machine makes.
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { directory, isLinux } from '../support/directory.mjs'
import { root } from '../support/packages.mjs'

/** Checks a library that calls these functions, after linking it with these options. */
function check(t: TestContext, target: string, calls: string[], options: string[] = []): string {
  const path = join(directory(t), 'addon.so')
  const input = calls.map((name) => `void ${name}(void);`).join('')
  const body = calls.map((name) => `${name}();`).join('')
  const flags = [
    '-shared',
    '-fPIC',
    '-fno-builtin',
    '-nostartfiles',
    '-xc',
    '-',
    '-o',
    path,
    '-Wl,--no-as-needed',
  ]
  const made = spawnSync('cc', [...flags, ...options], {
    encoding: 'utf8',
    input: `${input}void napi_register_module_v1(void) {${body}}`,
  })
  assert.equal(made.status, 0, made.stderr)
  const args = [join(root, 'tools/cross/elf.mjs'), target, path]
  const { stdout, stderr } = spawnSync(process.execPath, args, { encoding: 'utf8' })
  return stdout + stderr
}

const skip = isLinux && process.arch === 'x64' ? false : 'the compiler makes no library for Linux on x64'
const GLIBC = 'x86_64-unknown-linux-gnu'

test('elf.mjs accepts a library for an old glibc', { skip }, (t) => {
  const output = check(t, GLIBC, ['napi_throw', 'memcpy', 'getauxval'])
  assert.match(output, /addon\.so: \d+ bytes, needs glibc 2\.16$/m)
})

for (const [what, calls, fault] of [
  ['a symbol without a version', ['napi_throw', '__snprintfieee128'], 'it needs __snprintfieee128'],
  ['a newer glibc symbol', ['napi_throw', 'gettid'], 'it needs gettid@GLIBC_2.30'],
  ['no function of Node-API', ['memcpy'], 'it needs no function of Node-API'],
] as const) {
  test(`elf.mjs refuses a library with ${what}`, { skip }, (t) => {
    assert.ok(check(t, GLIBC, [...calls]).includes(`addon.so is not for glibc 2.17: ${fault}`))
  })
}

test('elf.mjs refuses a library that needs another one', { skip }, (t) => {
  const output = check(t, GLIBC, ['napi_throw', 'sin'], ['-lm'])
  assert.match(output, /is not for glibc 2\.17: it needs the library libm\.so\.6/)
})
