/** Reads YAML with Python's parser (Debian: python3-yaml): the documents of a file, as JSON values. */
import { spawnSync } from 'node:child_process'

const READER = 'import json, sys, yaml; json.dump(list(yaml.safe_load_all(sys.stdin)), sys.stdout)'

/** Why YAML cannot be read here; undefined when it can. */
export function yamlObstacle (): string | undefined {
  return spawnSync('python3', ['-c', 'import yaml'], { stdio: 'pipe' }).status === 0 ? undefined : 'missing PyYAML (Debian: python3-yaml)'
}

/** Starting Python takes longer than all the rest. */
const known = new Map<string, string>()

/** Every document of `text`. @throws Error with the parser's own words */
export function parseYaml (text: string): unknown[] {
  const json = known.get(text) ?? readYaml(text)
  known.set(text, json)
  return JSON.parse(json) as unknown[]
}

function readYaml (text: string): string {
  const { status, stdout, stderr } = spawnSync('python3', ['-c', READER], { input: text, encoding: 'utf8', maxBuffer: 16 * 1024 * 1024 })
  if (status !== 0) throw new Error(`not YAML: ${stderr.trim().split('\n').slice(-4).join(' ')}`)
  return stdout
}
