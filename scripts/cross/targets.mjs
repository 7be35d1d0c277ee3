// The platforms that a binary is published for, and how each is checked on a Linux machine.

/**
 * `link`: what can link it here. `run`: what can run its programs here, as words before the program.
 * `standsFor`: this target is checked in place of another that cannot be linked here.
 */
export const targets = [
  { name: 'x86_64-unknown-linux-gnu', link: 'zig', glibc: '2.17', run: [] },
  {
    name: 'aarch64-unknown-linux-gnu',
    link: 'zig',
    glibc: '2.17',
    run: ['qemu-aarch64-static', '-L', '/usr/aarch64-linux-gnu'],
  },
  { name: 'x86_64-unknown-linux-musl', link: 'zig', run: [] },
  { name: 'aarch64-unknown-linux-musl', link: 'zig', run: ['qemu-aarch64-static'] },
  { name: 'aarch64-apple-darwin', why: "Apple's linker and system libraries are needed to link it" },
  { name: 'x86_64-apple-darwin', why: "Apple's linker and system libraries are needed to link it" },
  { name: 'x86_64-pc-windows-msvc', why: "Microsoft's import libraries are needed to link it" },
  { name: 'aarch64-pc-windows-msvc', why: "Microsoft's import libraries are needed to link it" },
  { name: 'x86_64-pc-windows-gnu', link: 'mingw', run: ['wine'], standsFor: 'x86_64-pc-windows-msvc' },
]
