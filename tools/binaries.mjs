// Reads whether a native library is for a platform.
import { readFileSync } from 'node:fs'

/** By `process.platform` and `process.arch`: the bytes of the header that `headerOf` returns. */
const HEADERS = {
  linux: {
    x64: '7f454c460201 03003e00',
    arm64: '7f454c460201 0300b700',
    arm: '7f454c460101 03002800',
    riscv64: '7f454c460201 0300f300',
    s390x: '7f454c460202 00030016',
  },
  darwin: { x64: 'cffaedfe07000001 06000000', arm64: 'cffaedfe0c000001 06000000' },
  win32: { x64: '4d5a 504500006486', arm64: '4d5a 5045000064aa' },
}

/** The magic number, the type of the file and the processor, in hexadecimal digits. */
function headerOf(bytes, os) {
  const digits = (from, length) => bytes.toString('hex', from, from + length)
  if (os === 'linux') return `${digits(0, 6)} ${digits(0x10, 4)}`
  if (os === 'darwin') return `${digits(0, 8)} ${digits(0xc, 4)}`
  return bytes.length < 0x40 ? '' : `${digits(0, 2)} ${digits(bytes.readUInt32LE(0x3c), 6)}`
}

/** With these paths no other machine can build the same bytes. */
const PATH_OF_BUILDER =
  /(?:[A-Z]:\\|\/)[\w.\-/\\]*(?:\.cargo[/\\]registry|rustlib[/\\]src|(?:home|Users)[/\\])[\w.\-/\\]*/

/** Returns why a file is not a library to publish for this platform, `undefined` if it is. */
export function faultOf(path, { os, cpu, libc }) {
  const bytes = readFileSync(path)
  if (headerOf(bytes, os) !== HEADERS[os][cpu]) return `is not a library for ${os} ${cpu}`
  const text = bytes.toString('latin1')
  const needsGlibc = /GLIBC_\d/.test(text)
  if (needsGlibc !== (libc === 'glibc')) return `${needsGlibc ? 'needs' : 'does not need'} glibc`
  const [builder] = PATH_OF_BUILDER.exec(text) ?? []
  return builder && `contains ${builder}, a path of its builder`
}
