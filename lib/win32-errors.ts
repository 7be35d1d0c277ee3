// The errors of libuv with the numbers of `winerror.h` that an operation on a lock file can return and that
// `uv_translate_sys_error` (`src/win/error.c`) converts to them, so that errors have the form of `node:fs`.
const NUMBERS: Record<string, number[]> = {
  EACCES: [740, 998, 1920],
  EBADF: [6],
  // `src/platform/windows/mod.rs` converts 32 to 170, which libuv does not name.
  EBUSY: [32, 33, 170],
  EEXIST: [80, 183],
  EINVAL: [87],
  EIO: [23, 1117],
  EISDIR: [1],
  ELOOP: [1921],
  EMFILE: [4],
  ENAMETOOLONG: [206],
  ENOENT: [2, 3, 15, 123, 126, 161, 267],
  ENOMEM: [8, 14, 1450],
  ENOSPC: [39, 112],
  ENOTEMPTY: [145],
  ENOTSUP: [50],
  EPERM: [5, 1314],
  EROFS: [19],
}

/**
 * The number of libuv for an error of Windows; an error without a name in libuv keeps its number.
 * @param error from `GetLastError`
 * @param errors the errors of libuv
 */
export function fromWin32(error: number, errors: Map<number, [string, string]>): number {
  const [found] = [...errors].find(([, [name]]) => NUMBERS[name]?.includes(error)) ?? []
  return found === undefined ? error : -found
}
