/** Reads a Dockerfile: as many of its rules as ours uses. What is not known here is an error, so nothing is passed over. */

/** One step of a stage. */
export type DockerStep =
  | { kind: 'copy', from: string | undefined, sources: string[], target: string }
  | { kind: 'run', argv: string[], caches: string[], text: string }
  | { kind: 'workdir', path: string }

/** One FROM with what follows it. */
export interface DockerStage {
  name: string | undefined
  image: string
  steps: DockerStep[]
  env: Record<string, string>
  user: string | undefined
  volumes: string[]
  ports: number[]
  entrypoint: string[] | undefined
  healthcheck: string[] | undefined
  stopSignal: string | undefined
}

/** A Dockerfile that was read. */
export interface Dockerfile { arguments: Record<string, string>, stages: DockerStage[] }

/** @throws Error for an instruction or a form that is not known */
export function parseDockerfile (text: string): Dockerfile {
  const result: Dockerfile = { arguments: {}, stages: [] }
  for (const line of logicalLines(text)) {
    const [, word = '', rest = ''] = /^([A-Z]+)\s+(.*)$/.exec(line) ?? []
    const stage = result.stages.at(-1)
    if (word === 'ARG' && stage === undefined) {
      const [name = '', value] = splitOnce(rest, '=')
      if (value === undefined) throw new Error(`${line}: an argument without a default`)
      result.arguments[name] = value
    } else if (word === 'FROM') {
      const [image = '', as, name] = rest.split(/\s+/)
      if (as !== undefined && as !== 'AS') throw new Error(`${line}: not understood`)
      result.stages.push({ name, image: image.replaceAll(/\$\{(\w+)\}/g, (_, argument: string) => result.arguments[argument] ?? ''), steps: [], env: {}, user: undefined, volumes: [], ports: [], entrypoint: undefined, healthcheck: undefined, stopSignal: undefined })
    } else if (stage === undefined) {
      throw new Error(`${line}: before the first FROM`)
    } else {
      readInstruction(stage, word, rest)
    }
  }
  return result
}

function readInstruction (stage: DockerStage, word: string, rest: string): void {
  switch (word) {
    case 'COPY': {
      const from = /^--from=(\S+)\s+/.exec(rest)
      const words = rest.slice(from?.[0].length ?? 0).split(/\s+/)
      if (words.length < 2 || words.some((item) => item.startsWith('--'))) throw new Error(`COPY ${rest}: not understood`)
      stage.steps.push({ kind: 'copy', from: from?.[1], sources: words.slice(0, -1), target: words.at(-1) ?? '' })
      return
    }
    case 'RUN': {
      const caches: string[] = []
      const command = rest.replaceAll(/^--mount=type=cache,target=(\S+)\s+/g, (_, target: string) => {
        caches.push(target)
        return ''
      })
      if (command.startsWith('--')) throw new Error(`RUN ${rest}: not understood`)
      stage.steps.push({ kind: 'run', argv: execForm(command) ?? ['/bin/sh', '-c', command], caches, text: command })
      return
    }
    case 'WORKDIR': stage.steps.push({ kind: 'workdir', path: rest }); return
    case 'ENV':
      for (const pair of rest.split(/\s+/)) {
        const [name = '', value] = splitOnce(pair, '=')
        if (value === undefined || value.includes('"')) throw new Error(`ENV ${rest}: not understood`)
        stage.env[name] = value
      }
      return
    case 'USER': stage.user = rest; return
    case 'VOLUME': stage.volumes.push(...mustBeExec(word, rest)); return
    case 'EXPOSE': stage.ports.push(...rest.split(/\s+/).map(Number)); return
    case 'HEALTHCHECK': stage.healthcheck = mustBeExec(word, rest.replace(/^(--\S+\s+)*CMD\s+/, '')); return
    case 'ENTRYPOINT': stage.entrypoint = mustBeExec(word, rest); return
    case 'STOPSIGNAL': stage.stopSignal = rest; return
    case 'LABEL': return
    default: throw new Error(`${word}: not known`)
  }
}

/** Lines without comments, joined at backslashes. */
function logicalLines (text: string): string[] {
  return text.split('\n').filter((line) => !/^\s*#/.test(line)).join('\n').replaceAll(/\\\n/g, ' ').split('\n').map((line) => line.trim()).filter((line) => line !== '')
}

function execForm (text: string): string[] | undefined {
  if (!text.startsWith('[')) return undefined
  const value = JSON.parse(text) as unknown
  if (!Array.isArray(value) || !value.every((item) => typeof item === 'string')) throw new Error(`${text}: not a list of words`)
  return value
}

function mustBeExec (word: string, text: string): string[] {
  const words = execForm(text)
  if (words === undefined) throw new Error(`${word} ${text}: has to be a list ["…", "…"]: a shell in between takes the signals`)
  return words
}

function splitOnce (text: string, separator: string): [string, string | undefined] {
  const at = text.indexOf(separator)
  return at < 0 ? [text, undefined] : [text.slice(0, at), text.slice(at + 1)]
}
