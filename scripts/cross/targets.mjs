// The platforms that a binary is published for, and how each is checked on a Linux machine.

/**
 * `link`: what can link it here. `most`: bytes of the addon. `run`: what can run its programs here, as words before the program.
 * `standsFor`: this target is checked in place of another that cannot be linked here. `node`: what can run a Node.js of
 * it here, under which name its loader looks for the addon, and `process.platform` there.
 */
export const targets = [
  {
    name: 'x86_64-unknown-linux-gnu',
    link: 'zig',
    glibc: '2.17',
    most: 700_000,
    run: [],
    node: { under: 'this machine', platform: 'linux-x64-gnu', system: 'linux' },
  },
  {
    name: 'aarch64-unknown-linux-gnu',
    link: 'zig',
    glibc: '2.17',
    run: ['qemu-aarch64-static', '-L', '/usr/aarch64-linux-gnu'],
    node: { under: 'qemu', platform: 'linux-arm64-gnu', system: 'linux' },
  },
  {
    name: 'x86_64-unknown-linux-musl',
    link: 'zig',
    run: [],
    node: { under: 'musl', platform: 'linux-x64-musl', system: 'linux' },
  },
  {
    name: 'aarch64-unknown-linux-musl',
    link: 'zig',
    run: ['qemu-aarch64-static'],
    node: { under: 'musl and qemu', platform: 'linux-arm64-musl', system: 'linux' },
  },
  { name: 'aarch64-apple-darwin', why: "Apple's linker and system libraries are needed to link it" },
  { name: 'x86_64-apple-darwin', why: "Apple's linker and system libraries are needed to link it" },
  { name: 'x86_64-pc-windows-msvc', why: "Microsoft's import libraries are needed to link it" },
  { name: 'aarch64-pc-windows-msvc', why: "Microsoft's import libraries are needed to link it" },
  {
    name: 'x86_64-pc-windows-gnu',
    link: 'mingw',
    run: ['wine'],
    standsFor: 'x86_64-pc-windows-msvc',
    node: { under: 'wine', platform: 'win32-x64-msvc', system: 'win32' },
  },
]
