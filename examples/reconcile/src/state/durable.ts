import { open, rename } from 'node:fs/promises'
import { dirname } from 'node:path'

/** Makes a new name in a directory survive a power failure. */
export async function syncDirectory(path: string): Promise<void> {
  // Windows cannot open a directory and writes the name with the file.
  if (process.platform === 'win32') return
  const handle = await open(path)
  try {
    await handle.sync()
  } finally {
    await handle.close()
  }
}

/** Replaces a file in one step: a reader gets the old text or the new one. Only for the holder of the lock. */
export async function replaceFile(path: string, text: string): Promise<void> {
  const temporary = `${path}.tmp`
  const handle = await open(temporary, 'w', 0o600)
  try {
    await handle.writeFile(text)
    await handle.sync()
  } finally {
    await handle.close()
  }
  await rename(temporary, path)
  await syncDirectory(dirname(path))
}
