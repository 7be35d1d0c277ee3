// The numbers of `winerror.h` that an operation on a lock file can return, and the names that `uv_translate_sys_error`
// of libuv (`src/win/error.c`) gives them, so that errors have the form of `node:fs`.
const NAMES: Record<number, string> = {
  1: 'EISDIR',
  2: 'ENOENT',
  3: 'ENOENT',
  4: 'EMFILE',
  5: 'EPERM',
  6: 'EBADF',
  8: 'ENOMEM',
  14: 'ENOMEM',
  15: 'ENOENT',
  19: 'EROFS',
  23: 'EIO',
  32: 'EBUSY',
  33: 'EBUSY',
  39: 'ENOSPC',
  50: 'ENOTSUP',
  80: 'EEXIST',
  87: 'EINVAL',
  112: 'ENOSPC',
  123: 'ENOENT',
  126: 'ENOENT',
  145: 'ENOTEMPTY',
  161: 'ENOENT',
  // `src/platform/windows/mod.rs` converts 32 to this one, which libuv does not name.
  170: 'EBUSY',
  183: 'EEXIST',
  206: 'ENAMETOOLONG',
  267: 'ENOENT',
  740: 'EACCES',
  998: 'EACCES',
  1117: 'EIO',
  1314: 'EPERM',
  1450: 'ENOMEM',
  1920: 'EACCES',
  1921: 'ELOOP',
}

/**
 * The number of libuv for an error of Windows; an error without a name in libuv keeps its number.
 * @param error from `GetLastError`
 * @param errors the errors of libuv
 */
export function fromWin32(error: number, errors: Map<number, [string, string]>): number {
  const name = NAMES[error]
  if (name === undefined) return error
  for (const [number, [known]] of errors) if (known === name) return -number
  return error
}
