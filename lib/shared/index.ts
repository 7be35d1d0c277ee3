// What file locks, PostgreSQL locks and the command line share, as one file: one `LockError`, one clock.
export * from './abort.js'
export * from './abortable.js'
export * from './channels.js'
export * from './clock.js'
export * from './errors.js'
export * from './inherit.js'
export * from './plain.js'
export * from './with-lock.js'
