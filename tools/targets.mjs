// The platforms with a published binary.

const CPUS = {
  x86_64: 'x64',
  aarch64: 'arm64',
  armv7: 'arm',
  powerpc64le: 'ppc64',
  riscv64gc: 'riscv64',
}
const SYSTEMS = { apple: 'darwin', pc: 'win32' }

/**
 * The platform of a compiler's name, such as `aarch64-apple-darwin`: its `name` in the `package` with its binary, such as
 * `linux-x64-gnu`, its `process.platform` and `process.arch`, and on Linux its `libc`. `parseTriple` of napi's tooling
 * needs a newer Node.js than the oldest one that runs the tests.
 */
export function platformOf(triple) {
  const [machine, vendor, system, abi] = triple.split('-')
  const os = SYSTEMS[vendor] ?? system
  const cpu = CPUS[machine] ?? machine
  const name = [os, cpu, abi].filter(Boolean).join('-')
  const libc = abi === 'musl' ? 'musl' : 'glibc'
  return { name, package: `@reconcile-lock/${name}`, os, cpu, ...(os === 'linux' && { libc }) }
}
