/** From `sysexits.h`, and from the shell for a command that cannot start. */
export const exitCodes = {
  ok: 0,
  held: 1,
  stale: 2,
  usage: 64,
  cannotLock: 73,
  ioError: 74,
  contention: 75,
  notExecutable: 126,
  notFound: 127,
}
