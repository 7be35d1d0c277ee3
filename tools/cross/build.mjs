// The cross checks: their tools from Debian and PyPI, lints, the linked addon, and the core's own tests.
import { execFileSync, spawnSync } from 'node:child_process'
import { closeSync, existsSync, mkdirSync, openSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { installPackages } from '../debian.mjs'
import { installFromPip, makeOnce } from '../installers.mjs'
import { pathFlags, root, run } from '../steps.mjs'

/** The directory for all files of these checks. */
export const work = join(root, 'target/cross')
const wine = join(work, 'wine')

const QEMU = 'qemu-user-static'
/** The packages of an emulator and the libraries that Node.js needs under it. */
const emulator = (architecture) => [QEMU, `libc6-${architecture}-cross`, `libstdc++6-${architecture}-cross`]

/** The Debian packages for all targets, or by the command that links or runs programs. */
const debian = {
  all: ['rustc-web', 'rust-web-src', 'rust-web-clippy'],
  clang: ['clang-19', 'lld-19', 'llvm-19'],
  'qemu-arm-static': [QEMU],
  'qemu-aarch64-static': emulator('arm64'),
  'qemu-ppc64le-static': emulator('ppc64el'),
  'qemu-riscv64-static': [QEMU],
  'qemu-s390x-static': emulator('s390x'),
  wine: ['gcc-mingw-w64-x86-64', 'wine64', 'wine'],
}

const zig = join(work, 'zig')

/** Installs what is missing, or ends this process with the reason. */
export function installTools(targets) {
  const needed = targets.flatMap(({ link, run = [link] }) => debian[run[0]] ?? [])
  // The same linker as in the workflow that builds the published binaries.
  const installZig = (unfinished) => installFromPip(unfinished, '.github/zig.txt')
  const why = installPackages([...debian.all, ...new Set(needed)]) ?? makeOnce(zig, installZig)
  if (why === undefined) return
  console.error(why)
  process.exit(1)
}

/** With zig, as a program and as a module of Python. */
const zigEnvironment = () => ({
  ...process.env,
  PATH: `${join(zig, 'bin')}:${process.env.PATH}`,
  PYTHONPATH: zig,
})

/**
 * Without the first two flags each function has an entry in a table that the loader relocates: 65 kB. The third one leaves
 * out the places of panics in the source: 14 kB. The text of a panic stays. The last two inline small functions before
 * LLVM does, which the compiler leaves out when it optimizes for size: 26 kB.
 */
const SMALL_CODE =
  '-Zplt=yes -Zrelax-elf-relocations=yes -Zlocation-detail=none -Zinline-mir=yes -Zinline-mir-threshold=100'

/** The environment of every cargo command, with Debian's compiler, which includes the library sources. */
function environment() {
  const node = join(work, 'libnode')
  if (!existsSync(node)) {
    // The addon finds Node-API when it is loaded; only napi's build script needs this library.
    mkdirSync(node, { recursive: true })
    for (const name of ['libnode.dll', 'libnode.a', 'libnode.dll.a'])
      writeFileSync(join(node, name), name.endsWith('.a') ? '!<arch>\n' : '')
  }
  return {
    ...zigEnvironment(),
    RUSTC: '/usr/bin/rustc',
    // Enables the unstable option that builds the standard library in Debian's stable compiler.
    RUSTC_BOOTSTRAP: '1',
    CARGO_TARGET_DIR: work,
    CARGO_TARGET_X86_64_PC_WINDOWS_GNU_LINKER: 'x86_64-w64-mingw32-gcc',
    LIBNODE_PATH: node,
    CARGO_PROFILE_RELEASE_OPT_LEVEL: 's',
    RUSTFLAGS: `${SMALL_CODE} ${pathFlags('/usr/bin/rustc')}`,
  }
}

/** The directory with zig's C libraries: of the zig here, or of the one that a workflow has installed. */
export function zigLibrary() {
  const args = ['-c', 'import ziglang; print(ziglang.__path__[0])']
  return join(output('python3', args, zigEnvironment()).trim(), 'lib/libc')
}

/** Writes text stubs of the libraries of macOS: that of zig, and one for the library that the crate `libc` names. */
function appleLibraries() {
  const sdk = join(work, 'apple')
  const directory = join(sdk, 'usr/lib')
  mkdirSync(directory, { recursive: true })
  const text = readFileSync(join(zigLibrary(), 'darwin/libSystem.tbd'), 'utf8')
  // zig has more names for the processor than this linker.
  const system = text.replaceAll(/arm64e(\.x1)?/g, 'arm64')
  for (const name of ['System', 'c', 'm']) writeFileSync(join(directory, `lib${name}.tbd`), system)
  writeFileSync(join(directory, 'libiconv.tbd'), ICONV)
  return sdk
}

const ICONV = `--- !tapi-tbd
tbd-version: 4
targets: [ x86_64-macos, arm64-macos ]
install-name: /usr/lib/libiconv.2.dylib
...
`

/** Runs a command and returns its output. */
export function output(command, args, env = environment()) {
  console.log(`> ${[command, ...args].join(' ')}`)
  const options = { cwd: root, env, encoding: 'utf8', stdio: 'pipe', maxBuffer: 1 << 28 }
  return execFileSync(command, args, options)
}

const LIBRARY = '-Zbuild-std=std,panic_unwind,test'
/** `backtrace-trace-only`: addresses alone, as the stripped binary has no names to print. */
const FEATURES = 'optimize_for_size,panic-unwind,backtrace-trace-only'
const SMALL = ['-Zbuild-std=std,panic_unwind', `-Zbuild-std-features=${FEATURES}`]

/** Clippy, as strict as on this machine, for the addon and for the crate without it. */
export function lint({ name }) {
  for (const features of [[], ['--features', 'node']]) {
    const args = ['clippy', LIBRARY, '--target', name, '--package', 'reconcile-lock', '--lib', ...features]
    output('/usr/bin/cargo-clippy', [...args, '--', '-D', 'warnings'])
  }
}

/** Makes clang link for macOS. The linker strips the symbols, because rustc needs a program of LLVM for that. */
function linkForApple(env, name) {
  const flags = [`--target=${name}`, '-fuse-ld=lld', '-Wl,-x'].map((flag) => ` -Clink-arg=${flag}`)
  env.RUSTFLAGS += flags.join('')
  env.CARGO_PROFILE_RELEASE_STRIP = 'none'
  env[`CARGO_TARGET_${name.replaceAll('-', '_').toUpperCase()}_LINKER`] = 'clang-19'
  env.SDKROOT = appleLibraries()
}

/**
 * Runs cargo with the linker for the target: `zigbuild` is the `build` of zig. `musl`: flags for musl, whose programs
 * are static by default; zig provides their startup code.
 */
function cargo({ name, link, glibc }, command, musl, args) {
  const program = link === 'zig' ? 'cargo-zigbuild' : 'cargo'
  const first = link === 'zig' ? command.replace('build', 'zigbuild') : command
  const target = glibc ? `${name}.${glibc}` : name
  const env = environment()
  // The tables for unwinding are shorter with it: 7 kB. Those of armv7 are of another kind, and the code grows.
  if (name.startsWith('x86_64-unknown-linux')) env.RUSTFLAGS += ' -Cforce-frame-pointers=yes'
  if (name.endsWith('-musl')) env.RUSTFLAGS += ` ${musl}`
  if (link === 'clang') linkForApple(env, name)
  return output(program, [first, '--target', target, '--package', 'reconcile-lock', '--lib', ...args], env)
}

/** Links the addon and returns its path. */
export function build(target) {
  const options = ['--release', ...SMALL, '--features', 'node']
  cargo(target, 'build', '-Ctarget-feature=-crt-static', options)
  const [, system] = /(windows|apple)/.exec(target.name) ?? []
  const files = { windows: 'reconcile_lock.dll', apple: 'libreconcile_lock.dylib' }
  return join(work, target.name, 'release', files[system] ?? 'libreconcile_lock.so')
}

/** Builds and runs the core's tests; returns how many passed. */
export function testCore(target) {
  const tests = [
    ...['api', 'corpus', 'protocol'].flatMap((name) => ['--test', name]),
    '--no-run',
    LIBRARY,
    '--message-format=json',
  ]
  const printed = cargo(target, 'test', '-Clink-self-contained=no', tests)
  const messages = printed.split('\n').flatMap((line) => (line.startsWith('{') ? [JSON.parse(line)] : []))
  const programs = messages.filter(({ executable, profile }) => executable && profile.test)
  if (programs.length !== 4) throw new Error(`there are ${programs.length} test programs, not 4`)
  return programs.reduce((sum, { executable }) => sum + runTests(target, executable), 0)
}

function runTests({ run, name }, path) {
  const [command, ...args] = [...run, path]
  if (command === 'wine') prepareWine()
  const text = toFile(command, args)
  const [, passed] = /test result: ok\. (\d+) passed; 0 failed/.exec(text) ?? []
  if (!(Number(passed) > 0)) throw new Error(`${name}: ${path}\n${text.slice(-6000)}`)
  return Number(passed)
}

/** Runs a program with files as standard streams, which wine needs; returns its output, and throws if it fails. */
function toFile(command, args) {
  console.log(`> ${[command, ...args].join(' ')}`)
  const log = join(work, 'output.log')
  const [stdin, stdout] = [openSync(join(work, 'empty'), 'a+'), openSync(log, 'w')]
  const { status, signal, error } = spawnSync(command, args, {
    stdio: [stdin, stdout, stdout],
    // A trace of a panic takes longer under qemu than a test waits.
    env: { ...wineEnvironment(), RUST_BACKTRACE: '0' },
    timeout: 1_200_000,
  })
  for (const file of [stdin, stdout]) closeSync(file)
  const text = readFileSync(log, 'utf8')
  if (status === 0) return text
  throw new Error(
    `${[command, ...args].join(' ')}: ${error?.message ?? signal ?? status}\n${text.slice(-6000)}`,
  )
}

/** Without windows and without wine's own messages. */
export const wineEnvironment = () => ({ ...process.env, WINEPREFIX: wine, WINEDEBUG: '-all', DISPLAY: '' })

/** `bcryptprimitives.dll` is newer than this wine; an older function returns the same random bytes. */
const PRNG = `#include <windows.h>
BOOLEAN NTAPI SystemFunction036(PVOID, ULONG);
__declspec(dllexport) BOOL WINAPI ProcessPrng(PBYTE data, SIZE_T size) { return SystemFunction036(data, (ULONG)size); }
BOOL WINAPI DllMain(HINSTANCE self, DWORD why, LPVOID reserved) { return TRUE; }
`

/** The boot counter of Windows, which wine does not set. */
const BOOT_ID = [
  'HKLM\\SYSTEM\\CurrentControlSet\\Control\\Session Manager\\Memory Management\\PrefetchParameters',
  ...['/v', 'BootId', '/t', 'REG_DWORD', '/d', '7', '/f'],
]

/** Makes a wine prefix with what Debian's wine lacks for Rust's standard library and the addon. */
export function prepareWine() {
  const ready = join(wine, 'ready')
  if (existsSync(ready)) return
  mkdirSync(wine, { recursive: true })
  toFile('wine', ['wineboot', '--init'])
  const source = join(work, 'bcryptprimitives.c')
  writeFileSync(source, PRNG)
  const library = join(wine, 'drive_c/windows/system32/bcryptprimitives.dll')
  run('x86_64-w64-mingw32-gcc', ['-shared', '-O2', '-o', library, source, '-ladvapi32'])
  toFile('wine', ['reg', 'add', ...BOOT_ID])
  writeFileSync(ready, '')
}
