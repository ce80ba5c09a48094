/** A stream that is used before the answer to its protocol came: same flight, same bytes, same refusals. */
import assert from 'node:assert/strict'
import test from 'node:test'
import type { Stream } from '@libp2p/interface'
import { streamPair } from '@libp2p/utils'
import { concatBytes, errorCode, utf8Encode } from '../../../src/base/index.ts'
import { selectAtOnce } from '../../../src/node/eager-select.ts'
import { answerNegotiation, encodeLine, MULTISTREAM_HEADER } from '../../../src/node/protocol-negotiation.ts'
import { createPeerStream } from '../../../src/node/stream-adapter.ts'
import type { PeerStream } from '../../../src/node/index.ts'
import { waitFor, within } from '../../support/wait.ts'

const PROTOCOL = '/carrier/test/1.0.0'
const CHOICE = concatBytes([encodeLine(MULTISTREAM_HEADER), encodeLine(PROTOCOL)])
const DEADLINE_MS = 20_000

test('the first words leave without an answer, right behind the choice', async () => {
  const { ours, theirs } = await open()
  const seen = watch(theirs)
  void say(ours, 'hello')
  await waitFor('the first words', () => seen().length >= CHOICE.length + 5, { deadlineMs: DEADLINE_MS, intervalMs: 1 })
  assert.deepEqual(seen(), concatBytes([CHOICE, utf8Encode('hello')]))
})

test('the answer is taken off, wherever it is cut, and what follows is read whole, end included', async () => {
  const answer = concatBytes([CHOICE, utf8Encode('tail')])
  for (let cut = 0; cut < answer.length; cut++) {
    const { ours, theirs } = await open()
    if (cut > 0) {
      theirs.send(answer.slice(0, cut))
      await new Promise((resolve) => setImmediate(resolve))
    }
    theirs.send(answer.slice(cut))
    await theirs.close()
    assert.equal(await readAll(ours), 'tail', `cut at ${cut}`)
  }
})

test('our own responder takes it: choice and first words in one piece', async () => {
  const { ours, theirs } = await open()
  void say(ours, 'hello')
  assert.equal(await within('the choice', DEADLINE_MS, answerNegotiation(theirs, (name) => name === PROTOCOL ? 'accept' : 'refuse', AbortSignal.timeout(DEADLINE_MS))), PROTOCOL)
  const peer = createPeerStream(theirs)
  assert.equal(await readSome(peer), 'hello')
  void say(peer, 'back')
  assert.equal(await readSome(ours), 'back')
})

test('answer, words and end in one piece are read whole when our own end is closed already: the close that follows throws nothing away', async () => {
  const { ours, raw } = await open()
  await within('our end', DEADLINE_MS, ours.sink((async function * () { /* nothing to say */ })()))
  // as yamux takes frames that came in one chunk
  raw.onData(concatBytes([CHOICE, utf8Encode('tail')]))
  raw.onRemoteCloseWrite()
  assert.equal(await within('an end', DEADLINE_MS, readAll(ours)), 'tail')
})

test('"na" and a reset in place of an answer are ERR_NOT_AVAILABLE, as they are for one who waits', async () => {
  for (const refuse of [(stream: Stream) => { stream.send(concatBytes([encodeLine(MULTISTREAM_HEADER), encodeLine('na')])) }, (stream: Stream) => { stream.abort(new Error('refused')) }]) {
    const { ours, theirs } = await open()
    refuse(theirs)
    assert.equal(await failureOf(ours), 'ERR_NOT_AVAILABLE')
  }
})

test('I4: a reset, an end or other words in place of the answer are never an end of the stream', async () => {
  const { ours, theirs } = await open()
  theirs.send(concatBytes([CHOICE, utf8Encode('x')]))
  assert.equal(await readSome(ours), 'x')
  theirs.abort(new Error('later'))
  assert.equal(await failureOf(ours), 'ERR_LINK_LOST', 'a reset after the answer is no refusal')

  for (const bytes of [new Uint8Array(0), encodeLine(MULTISTREAM_HEADER)]) {
    const other = await open()
    if (bytes.length > 0) other.theirs.send(bytes)
    await other.theirs.close()
    assert.equal(await failureOf(other.ours), 'ERR_LINK_LOST')
  }
  // other words end it by themselves, whatever follows
  for (const bytes of [encodeLine('/carrier/other/1.0.0'), concatBytes([encodeLine(MULTISTREAM_HEADER), encodeLine('/carrier/other/1.0.0')]), new Uint8Array([0xff, 0xff, 0xff])]) {
    const other = await open()
    other.theirs.send(bytes)
    assert.equal(await failureOf(other.ours), 'ERR_LINK_LOST')
  }
})

async function open (): Promise<{ ours: PeerStream, theirs: Stream, raw: Receiving }> {
  const [one, theirs] = await streamPair()
  selectAtOnce(one, PROTOCOL)
  return { ours: createPeerStream(one), theirs, raw: one as Stream & Receiving }
}

/** What a muxer calls. */
interface Receiving { onData: (data: Uint8Array) => void, onRemoteCloseWrite: () => void }

function watch (stream: Stream): () => Uint8Array {
  const chunks: Uint8Array[] = []
  stream.addEventListener('message', ({ data }) => { chunks.push(data instanceof Uint8Array ? data : data.subarray()) })
  return () => concatBytes(chunks)
}

async function say (stream: PeerStream, words: string): Promise<void> {
  await stream.sink((async function * () {
    yield utf8Encode(words)
    await stream.closed
  })()).catch(() => { /* the stream ends with the test */ })
}

async function readAll (stream: PeerStream): Promise<string> {
  const chunks: Uint8Array[] = []
  for await (const chunk of stream.source) chunks.push(chunk)
  return text(concatBytes(chunks))
}

async function readSome (stream: PeerStream): Promise<string> {
  const next: IteratorResult<Uint8Array, unknown> = await within('some bytes', DEADLINE_MS, stream.source.next())
  return next.done === true ? '' : text(next.value)
}

async function failureOf (stream: PeerStream): Promise<string> {
  try {
    await within('an end', DEADLINE_MS, readAll(stream))
    return 'it ended'
  } catch (err) {
    return errorCode(err)
  }
}

function text (bytes: Uint8Array): string {
  return Buffer.from(bytes).toString()
}
