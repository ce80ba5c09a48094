/** Waiting for another process to be gone. */
import { readFileSync } from 'node:fs'
import { setTimeout as delay } from 'node:timers/promises'

/** Time between two looks; the kernel tells only parents. */
const LOOK_MS = 25

/** True when the process was gone within the time. */
export async function waitForProcessEnd (pid: number, timeoutMs: number): Promise<boolean> {
  const startedAtMs = performance.now()
  while (isAlive(pid)) {
    if (performance.now() - startedAtMs > timeoutMs) return false
    await delay(LOOK_MS)
  }
  return true
}

function isAlive (pid: number): boolean {
  try {
    process.kill(pid, 0)
  } catch (err) {
    return err instanceof Error && 'code' in err && err.code === 'EPERM'
  }
  return !isZombie(pid)
}

/** A process that has ended but whose parent does not care, as in containers without an init. */
function isZombie (pid: number): boolean {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, 'utf8')
    return text.slice(text.lastIndexOf(')') + 2).startsWith('Z')
  } catch {
    // no /proc on this system, or the process went meanwhile: the next look tells
    return false
  }
}
