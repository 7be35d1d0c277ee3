export { acquireLock, releaseLock, resolveLockPath } from 'reconcile-lock'
