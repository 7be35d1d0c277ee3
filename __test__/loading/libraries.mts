// Shared libraries that the dynamic loader rejects, built by the linker.
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { TestContext } from 'node:test'
import { directory } from '../support/directory.mjs'

function cc(cwd: string, ...args: string[]): void {
  const { status, stderr, error } = spawnSync('cc', ['-shared', '-nostdlib', '-fPIC', ...args], {
    cwd,
    encoding: 'utf8',
  })
  assert.equal(status, 0, `cc ${args.join(' ')}: ${error?.message ?? stderr}`)
}

/** Builds a library that depends on another one with this name and these symbols. */
function needing(t: TestContext, soname: string, symbols: string[], ...version: string[]): string {
  const cwd = directory(t)
  writeFileSync(join(cwd, 'stub.c'), symbols.map((symbol) => `void ${symbol}(void) {}\n`).join(''))
  cc(cwd, '-o', 'stub.so', `-Wl,-soname,${soname}`, ...version, 'stub.c')
  const calls = symbols.map((symbol) => `${symbol}();`).join(' ')
  const declared = symbols.map((symbol) => `void ${symbol}(void);\n`).join('')
  writeFileSync(join(cwd, 'addon.c'), `${declared}void napi_register_module_v1(void) { ${calls} }\n`)
  cc(cwd, '-o', 'addon.node', 'addon.c', './stub.so')
  return join(cwd, 'addon.node')
}

/** An addon that needs a future version of glibc. */
export function ofFutureGlibc(t: TestContext): string {
  const script = join(directory(t), 'versions')
  writeFileSync(script, 'GLIBC_9.9 { global: older; };\nGLIBC_9.10 { global: newer; };\n')
  return needing(t, 'libc.so.6', ['older', 'newer'], `-Wl,--version-script=${script}`)
}

/** An addon that is linked against musl, by its name on Alpine or by the one that zig uses. */
export const ofMusl = (t: TestContext, soname = 'libc.musl-x86_64.so.1'): string =>
  needing(t, soname, ['of_musl'])
