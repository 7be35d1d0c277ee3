export type Native = typeof import('../binding.js')

/** The outcome of loading the addon. */
export interface Loaded {
  path?: string
  /** A file that is not an addon can export anything. */
  native?: Native | null
  error?: unknown
}

/** A file that a program has named can be another addon or a module. */
export const isBinding = (native: Native | null | undefined): native is Native =>
  typeof native?.acquire === 'function'

/** The platforms with a published package. */
const published = [
  'linux-x64-gnu',
  'linux-arm64-gnu',
  'linux-arm-gnueabihf',
  'linux-riscv64-gnu',
  'linux-s390x-gnu',
  'linux-x64-musl',
  'linux-arm64-musl',
  'darwin-arm64',
  'darwin-x64',
  'win32-x64-msvc',
  'win32-arm64-msvc',
] as const
export type Published = (typeof published)[number]

export const scoped = (target: string): string => `@reconcile-lock/${target}`
export const fileOf = (target: string): string => `reconcile-lock.${target}.node`

export const isPublished = (target: string): target is Published =>
  (published as readonly string[]).includes(target)

/** webpack replaces it. */
declare const __webpack_require__: unknown

/** Names each package in full for bundlers and file tracers; inside a `try` they accept a missing package. */
export function requireBundled(target: Published): Loaded {
  try {
    // webpack would warn about each package that is not installed. It takes those that match this name instead.
    if (typeof __webpack_require__ === 'function')
      return { native: require(`@reconcile-lock/${target}/reconcile-lock.${target}.node`) }
    if (target === 'linux-x64-gnu') return { native: require('@reconcile-lock/linux-x64-gnu') }
    if (target === 'linux-arm64-gnu') return { native: require('@reconcile-lock/linux-arm64-gnu') }
    if (target === 'linux-arm-gnueabihf') return { native: require('@reconcile-lock/linux-arm-gnueabihf') }
    if (target === 'linux-riscv64-gnu') return { native: require('@reconcile-lock/linux-riscv64-gnu') }
    if (target === 'linux-s390x-gnu') return { native: require('@reconcile-lock/linux-s390x-gnu') }
    if (target === 'linux-x64-musl') return { native: require('@reconcile-lock/linux-x64-musl') }
    if (target === 'linux-arm64-musl') return { native: require('@reconcile-lock/linux-arm64-musl') }
    if (target === 'darwin-arm64') return { native: require('@reconcile-lock/darwin-arm64') }
    if (target === 'darwin-x64') return { native: require('@reconcile-lock/darwin-x64') }
    if (target === 'win32-x64-msvc') return { native: require('@reconcile-lock/win32-x64-msvc') }
    if (target === 'win32-arm64-msvc') return { native: require('@reconcile-lock/win32-arm64-msvc') }
    return target satisfies never
  } catch (error) {
    return { error }
  }
}
