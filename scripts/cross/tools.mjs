// What the cross checks need from Debian and PyPI, installed where that is possible.
import { existsSync, mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { file, installPackages } from '../debian.mjs'
import { root, run } from '../steps.mjs'

/** Everything of these checks stands below this directory. */
export const work = join(root, 'target/cross')

/** A file of each Debian package, by what needs it: everything, or what programs are run with. */
const debian = {
  all: {
    'rustc-web': '/usr/bin/rustc',
    'rust-web-src': '/usr/lib/rustlib/src/rust/library/std/Cargo.toml',
    'rust-web-clippy': '/usr/bin/clippy-driver',
  },
  'qemu-aarch64-static': {
    'qemu-user-static': '/usr/bin/qemu-aarch64-static',
    'libc6-arm64-cross': '/usr/aarch64-linux-gnu/lib/libc.so.6',
    'libstdc++6-arm64-cross': '/usr/aarch64-linux-gnu/lib/libstdc++.so.6',
  },
  wine: {
    'gcc-mingw-w64-x86-64': '/usr/bin/x86_64-w64-mingw32-gcc',
    wine64: '/usr/lib/x86_64-linux-gnu/wine/x86_64-windows/kernelbase.dll',
    wine: '/usr/bin/wine',
  },
}

/** Installs what is missing, or ends this process and says what that is. */
export function installTools(/** @type {typeof import('./targets.mjs').targets} */ targets) {
  const runners = new Set(targets.flatMap(({ run = [] }) => run.slice(0, 1)))
  const needed = Object.assign({}, debian.all, ...[...runners].map((runner) => debian[runner]))
  const why = installPackages(
    Object.fromEntries(Object.entries(needed).map(([name, path]) => [name, file(path)])),
  )
  if (why !== undefined) {
    console.error(why)
    process.exit(1)
  }
  const venv = join(work, 'python')
  if (existsSync(join(venv, 'bin/cargo-zigbuild'))) return
  mkdirSync(work, { recursive: true })
  run('python3', ['-m', 'venv', venv])
  // The very linker of the workflow that builds what is published.
  const args = ['install', '--quiet', '--no-deps', '--require-hashes', '-r', '.github/zig.txt']
  run(join(venv, 'bin/pip'), args)
}

/** The environment of every cargo command: Debian's compiler, which comes with the sources of its library. */
export function environment() {
  const node = join(work, 'libnode')
  if (!existsSync(node)) {
    // Node-API is looked up when the addon is loaded; only napi's build script asks for this library.
    mkdirSync(node, { recursive: true })
    for (const name of ['libnode.dll', 'libnode.a', 'libnode.dll.a']) {
      writeFileSync(join(node, name), name.endsWith('.a') ? '!<arch>\n' : '')
    }
  }
  return {
    ...process.env,
    PATH: `${join(work, 'python/bin')}:${process.env.PATH}`,
    RUSTC: '/usr/bin/rustc',
    // Debian's compiler is a stable one; only an unstable option builds the standard library.
    RUSTC_BOOTSTRAP: '1',
    CARGO_TARGET_DIR: work,
    CARGO_TARGET_X86_64_PC_WINDOWS_GNU_LINKER: 'x86_64-w64-mingw32-gcc',
    LIBNODE_PATH: node,
    CARGO_PROFILE_RELEASE_OPT_LEVEL: 's',
  }
}
