// Words of a command line that can contain a password.

/**
 * Whether a word may contain a password: a URL or a part of one, or the value of a variable. Messages must not repeat it:
 * they end up in logs.
 */
export const isSecret = (word: string): boolean => /:\/\/|@/.test(word) || isAssignment(word)

/** Whether a word sets a variable, as at the beginning of a command of a shell. */
export const isAssignment = (word: string): boolean => /^\w+=/.test(word)
