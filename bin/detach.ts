/** Starting the daemon as a process of its own: it outlives the command and says once how its start went. */
import { spawn } from 'node:child_process'
import { closeSync } from 'node:fs'
import { CarrierError, isErrorCode } from '../src/base/light.ts'
import { openLogFile } from './daemon-log.ts'

/** What the daemon tells the command that started it. */
export type StartReport = { kind: 'ready' } | { kind: 'failed', code: string, message: string }

/** How it is started. */
export interface DetachInit {
  /** Arguments of the program after its name. */
  args: readonly string[]
  environment: NodeJS.ProcessEnv
  logFile: string
}

/** Longest wait for the daemon to answer. */
const START_WAIT_MS = 30_000

/** Starts it and resolves with its pid when its control socket answers. @throws CarrierError what the daemon failed with, ERR_TIMEOUT */
export async function startDetached (init: DetachInit): Promise<number> {
  const log = openLogFile(init.logFile)
  const child = spawn(process.execPath, [...process.execArgv, process.argv[1] ?? '', ...init.args], {
    detached: true,
    // its paths are absolute; the directory of the command shall stay free to be unmounted
    cwd: '/',
    stdio: ['ignore', log, log, 'ipc'],
    env: init.environment
  })
  closeSync(log)
  try {
    return await new Promise<number>((resolve, reject) => {
      const timer = setTimeout(() => {
        child.kill('SIGKILL')
        reject(new CarrierError('ERR_TIMEOUT', `the daemon did not answer within ${START_WAIT_MS / 1000} s; see ${init.logFile}`))
      }, START_WAIT_MS)
      const settle = (outcome: () => void): void => {
        clearTimeout(timer)
        outcome()
      }
      child.once('error', (err) => { settle(() => { reject(new CarrierError('ERR_INTERNAL', `cannot start the daemon: ${err.message}`, { cause: err })) }) })
      child.once('exit', (code, signal) => {
        settle(() => { reject(new CarrierError('ERR_INTERNAL', `the daemon ended while it started (${signal ?? `code ${code}`}); see ${init.logFile}`)) })
      })
      child.once('message', (message) => {
        const report = asReport(message)
        settle(() => {
          if (report.kind === 'ready') resolve(child.pid ?? 0)
          else reject(new CarrierError(isErrorCode(report.code) ? report.code : 'ERR_INTERNAL', report.message))
        })
      })
    })
  } finally {
    if (child.connected) child.disconnect()
    child.unref()
  }
}

/** In the daemon: tells the command that waits, once; without one it does nothing. */
export async function reportStart (report: StartReport): Promise<void> {
  if (!process.connected) return
  await new Promise<void>((resolve) => {
    // the command may have gone meanwhile: then nobody waits for the answer
    process.send?.(report, undefined, undefined, () => { resolve() })
  })
  if (process.connected) process.disconnect?.()
}

function asReport (message: unknown): StartReport {
  if (typeof message === 'object' && message !== null && 'kind' in message) {
    if (message.kind === 'ready') return { kind: 'ready' }
    if ('code' in message && 'message' in message) return { kind: 'failed', code: String(message.code), message: String(message.message) }
  }
  return { kind: 'failed', code: 'ERR_INTERNAL', message: 'the daemon said something unknown; do command and daemon have the same version?' }
}
