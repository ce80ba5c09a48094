/** What a Node process holds after a garbage collection, asked through its inspector: no switch in the process is needed. */
import type { Program } from '../support/program.ts'
import { residentMegabytes } from '../support/proc.ts'
import { waitFor, within } from '../support/wait.ts'

/** Memory in use after a collection, in kB (10^3 bytes): JavaScript objects, and what lies outside of that heap. */
export interface ProcessMemory { heapKilobytes: number, externalKilobytes: number, residentKilobytes: number }

interface Answer { id?: number, result?: { result?: { value?: unknown } }, error?: { message: string } }

const DEADLINE_MS = 20_000
const LISTENING = /Debugger listening on (ws:\/\/\S+)/g
/** The inspector has one port for all processes: it is given back, a moment after our connection has gone. */
const CLOSE_INSPECTOR = 'void setTimeout(() => { process.getBuiltinModule("node:inspector").close() }, 100)'

/** Collects garbage twice and reads the figures. Processes are asked one after the other. */
export async function memoryAfterCollection (program: Program): Promise<ProcessMemory> {
  const seen = program.stderr().match(LISTENING)?.length ?? 0
  const url = await waitFor(`the inspector of ${program.name}`, () => {
    process.kill(program.pid, 'SIGUSR1')
    return [...program.stderr().matchAll(LISTENING)].at(seen)?.[1]
  }, { deadlineMs: DEADLINE_MS, intervalMs: 250 })
  return within(`the inspector of ${program.name} to answer`, DEADLINE_MS, ask(url, program))
}

async function ask (url: string, program: Program): Promise<ProcessMemory> {
  const socket = new WebSocket(url)
  const waiting = new Map<number, { resolve: (answer: Answer) => void, reject: (err: Error) => void }>()
  let lastId = 0
  socket.addEventListener('message', ({ data }) => {
    const answer = JSON.parse(String(data)) as Answer
    if (answer.id === undefined) return
    const waiter = waiting.get(answer.id)
    waiting.delete(answer.id)
    if (answer.error === undefined) waiter?.resolve(answer)
    else waiter?.reject(new Error(answer.error.message))
  })
  await new Promise<void>((resolve, reject) => {
    socket.addEventListener('open', () => { resolve() }, { once: true })
    socket.addEventListener('error', () => { reject(new Error(`no connection to ${url}`)) }, { once: true })
  })
  const call = async (method: string, params: object = {}): Promise<Answer> => new Promise((resolve, reject) => {
    const id = ++lastId
    waiting.set(id, { resolve, reject })
    socket.send(JSON.stringify({ id, method, params }))
  })
  try {
    // the second collection takes what finalizers of the first one let go
    await call('HeapProfiler.collectGarbage')
    await call('HeapProfiler.collectGarbage')
    const answer = await call('Runtime.evaluate', { expression: 'JSON.stringify(process.memoryUsage())', returnByValue: true })
    const usage = JSON.parse(String(answer.result?.result?.value)) as { heapUsed: number, external: number }
    await call('Runtime.evaluate', { expression: CLOSE_INSPECTOR })
    return { heapKilobytes: usage.heapUsed / 1000, externalKilobytes: usage.external / 1000, residentKilobytes: residentMegabytes(program.pid).now * 1000 }
  } finally {
    socket.close()
  }
}
