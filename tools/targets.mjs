// The platforms with a published binary.

/**
 * @typedef {object} Platform
 * @property {string} name the platform in the name of its package, such as `linux-x64-gnu`
 * @property {string} package the name of its package
 * @property {string} os `process.platform`
 * @property {string} cpu `process.arch`
 * @property {'glibc' | 'musl'} [libc] on Linux
 */

/** @type {Record<string, string>} */
const CPUS = {
  x86_64: 'x64',
  aarch64: 'arm64',
  armv7: 'arm',
  i686: 'ia32',
  powerpc64le: 'ppc64',
  riscv64gc: 'riscv64',
}
/** @type {Record<string, string>} */
const SYSTEMS = { apple: 'darwin', pc: 'win32' }

/**
 * @param {string} triple the compiler's name for a platform, such as `aarch64-apple-darwin`
 * @returns {Platform}
 */
export function platformOf(triple) {
  const [cpu = '', vendor = '', system = '', abi] = triple.split('-')
  const os = SYSTEMS[vendor] ?? system
  const name = [os, CPUS[cpu] ?? cpu, ...(abi === undefined ? [] : [abi])].join('-')
  const platform = { name, package: `@reconcile-lock/${name}`, os, cpu: CPUS[cpu] ?? cpu }
  return os === 'linux' ? { ...platform, libc: abi === 'musl' ? 'musl' : 'glibc' } : platform
}

/** The platform of this machine, as `lib/target.ts` names it. */
export function currentTarget() {
  const { platform, arch, report } = process
  if (platform === 'win32') return `win32-${arch}-msvc`
  if (platform !== 'linux') return `${platform}-${arch}`
  const libc = report.getReport().header.glibcVersionRuntime === undefined ? 'musl' : 'gnu'
  return `linux-${arch}-${libc}${arch === 'arm' ? 'eabihf' : ''}`
}
