/** Header of a yamux frame, version 0, as the specification has it: no muxer of ours would write some of them. */
export function yamuxHeader (type: number, flags: number, stream: number, length: number): Uint8Array {
  const bytes = new Uint8Array(12)
  const view = new DataView(bytes.buffer)
  view.setUint8(1, type)
  view.setUint16(2, flags)
  view.setUint32(4, stream)
  view.setUint32(8, length)
  return bytes
}
