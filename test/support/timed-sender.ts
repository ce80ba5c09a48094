/** What the services of tests and bench do with a command `D<ms>\n`: send for so long. */
import type { Socket } from 'node:net'

const BLOCK = Buffer.alloc(64 * 1024, 'carrier test block ')
const MAX_COMMAND_BYTES = 32

/** Reads the number that ends at the next line end, and hands it on; what is too long is reset. */
export function readNumber (socket: Socket, rest: Buffer, run: (value: number) => void): void {
  let text = rest.toString('latin1')
  const decide = (): void => {
    const end = text.indexOf('\n')
    if (end >= 0) {
      socket.off('data', onData)
      socket.resume()
      run(Number(text.slice(0, end)))
    } else if (text.length > MAX_COMMAND_BYTES) socket.resetAndDestroy()
  }
  const onData = (chunk: Buffer): void => {
    text += chunk.toString('latin1')
    decide()
  }
  socket.on('data', onData)
  decide()
}

/** Sends as fast as the other end takes it, then ends. */
export function sendFor (socket: Socket, durationMs: number): void {
  const untilMs = performance.now() + durationMs
  const step = (): void => {
    while (performance.now() < untilMs && !socket.destroyed) {
      if (!socket.write(BLOCK)) {
        socket.once('drain', step)
        return
      }
    }
    socket.end()
  }
  step()
}
