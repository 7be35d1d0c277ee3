// Checks an addon for macOS by LLVM's tools, as no program for macOS runs here.
import { output } from './build.mjs'

const SYSTEM = '/usr/lib/libSystem.B.dylib'

/** Describes an addon for macOS; throws an error if a Node.js for macOS would not load it. */
export function describeMachO(path, { macos }) {
  const headers = output('llvm-objdump-19', ['--macho', '--private-headers', path])
  const symbols = (...options) =>
    output('llvm-nm-19', [...options, path])
      .trim()
      .split('\n')
  const oldest = /cmd LC_(?:BUILD_VERSION|VERSION_MIN_MACOSX)\n(?:.*\n)*?\s*(?:minos|version) (\S+)/
  const { 1: system } = oldest.exec(headers) ?? []
  const loads = headers.matchAll(/cmd LC_LOAD_(?:WEAK_)?DYLIB\n.*\n\s*name (\S+)/g)
  const libraries = [...loads].map(([, name]) => name).join(', ')
  const exported = symbols('--defined-only', '--extern-only', '--just-symbol-name').join(', ')
  // Node.js itself has the functions of Node-API, so they are of no library.
  const expected = / _napi_\w+ \(dynamically looked up\)$|\(from libSystem\)$/
  const strange = symbols('--undefined-only', '--format=darwin').filter((line) => !expected.test(line))
  const isSigned = headers.includes('cmd LC_CODE_SIGNATURE')
  const faults = [
    ...(system === macos ? [] : [`it declares macOS ${system}, not ${macos}`]),
    ...(libraries === SYSTEM ? [] : [`it needs the libraries ${libraries}`]),
    ...(exported === '_napi_register_module_v1' ? [] : [`it exports ${exported}`]),
    ...strange.map((line) => `no library has ${line.trim()}`),
    // macOS on arm64 loads no code without a signature.
    ...(isSigned || !headers.includes(' ARM64 ') ? [] : ['it is not signed']),
  ]
  if (faults.length > 0) throw new Error(`${path}: ${faults.join('; ')}`)
  return `needs macOS ${system} and only libSystem${isSigned ? ', signed ad hoc' : ''}`
}
