// What Debian's wine lacks of the Windows that Rust's standard library, Node.js and the addon are written for.
import { closeSync, existsSync, mkdirSync, openSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { run } from '../steps.mjs'
import { work } from './tools.mjs'

const prefix = join(work, 'wine')

/** Where no window can be shown, and nobody reads what wine thinks of a program. */
export const wineEnvironment = () => ({ ...process.env, WINEPREFIX: prefix, WINEDEBUG: '-all', DISPLAY: '' })

/** `bcryptprimitives.dll` is newer than this wine; the same bytes come from an older name. */
const PRNG = `#include <windows.h>
BOOLEAN NTAPI SystemFunction036(PVOID, ULONG);
__declspec(dllexport) BOOL WINAPI ProcessPrng(PBYTE data, SIZE_T size) { return SystemFunction036(data, (ULONG)size); }
BOOL WINAPI DllMain(HINSTANCE self, DWORD why, LPVOID reserved) { return TRUE; }
`

/** Windows counts its starts here; in wine nobody does. */
const BOOT_ID = [
  'HKLM\\SYSTEM\\CurrentControlSet\\Control\\Session Manager\\Memory Management\\PrefetchParameters',
  ...['/v', 'BootId', '/t', 'REG_DWORD', '/d', '7', '/f'],
]

/** Makes the directory of a Windows in which programs can be run. */
export function prepareWine() {
  const ready = join(prefix, 'ready')
  if (existsSync(ready)) return
  mkdirSync(prefix, { recursive: true })
  wine(['wineboot', '--init'])
  const source = join(work, 'bcryptprimitives.c')
  writeFileSync(source, PRNG)
  const library = join(prefix, 'drive_c/windows/system32/bcryptprimitives.dll')
  run('x86_64-w64-mingw32-gcc', ['-shared', '-O2', '-o', library, source, '-ladvapi32'])
  wine(['reg', 'add', ...BOOT_ID])
  writeFileSync(ready, '')
}

/** It wants files as standard streams. */
function wine(args) {
  const log = join(work, 'wine.log')
  const [stdin, stdout] = [openSync('/dev/zero', 'r'), openSync(log, 'w')]
  try {
    run('wine', args, { env: wineEnvironment(), stdio: [stdin, stdout, stdout], timeout: 300_000 })
  } finally {
    for (const file of [stdin, stdout]) closeSync(file)
  }
}
