/** Performs the steps of a Dockerfile in clean roots, as a build of the image would. */
import { join, posix } from 'node:path'
import { furnishLikeNodeImage, insideEnvironment, lendNpm } from './clean-root.ts'
import type { CleanRoot, CleanRoots } from './clean-root.ts'
import type { Dockerfile, DockerStage, DockerStep } from './dockerfile.ts'
import { mustRun } from './program.ts'

/** The last stage, and where commands run in it. */
export interface PerformedImage { root: CleanRoot, stage: DockerStage, cwd: string }

const STEP_DEADLINE_MS = 400_000

/** Runs every stage; `context` is the directory that a build would be given. */
export async function performImage (roots: CleanRoots, dockerfile: Dockerfile, context: string): Promise<PerformedImage> {
  const built = new Map<string, CleanRoot>()
  let last: PerformedImage | undefined
  for (const [index, stage] of dockerfile.stages.entries()) {
    const root = await roots.create(stage.name ?? `stage${index}`)
    await furnishLikeNodeImage(root)
    let cwd = '/'
    for (const step of stage.steps) cwd = await perform(step, { root, stage, cwd, context, built })
    if (stage.name !== undefined) built.set(stage.name, root)
    last = { root, stage, cwd }
  }
  if (last === undefined) throw new Error('there is no stage')
  return last
}

interface At extends PerformedImage { context: string, built: Map<string, CleanRoot> }

/** Gives the working directory after the step. */
async function perform (step: DockerStep, { root, stage, cwd, context, built }: At): Promise<string> {
  const outside = { place: root.outside }
  switch (step.kind) {
    case 'workdir': {
      const path = posix.resolve(cwd, step.path)
      await mustRun('mkdir', ['-p', join(root.directory, path)], outside)
      return path
    }
    case 'copy': {
      const from = step.from === undefined ? context : built.get(step.from)?.directory
      if (from === undefined) throw new Error(`no stage is called ${step.from}`)
      const target = join(root.directory, posix.resolve(cwd, step.target))
      await mustRun('mkdir', ['-p', step.target.endsWith('/') ? target : join(target, '..')], outside)
      // -T: what is copied takes the name of the target, as COPY does with a directory
      for (const source of step.sources) await mustRun('cp', ['-a', '--no-preserve=ownership', ...step.target.endsWith('/') ? [] : ['-T'], join(from, source), target], outside)
      return cwd
    }
    case 'run': {
      let env: Record<string, string> = { ...stage.env }
      for (const cache of step.caches) env = { ...env, ...await lendNpm(root, cache) }
      await mustRun(step.argv[0] ?? '', step.argv.slice(1), { place: root.place({ cwd, hasNetwork: step.caches.length > 0 }), env: insideEnvironment(env), deadlineMs: STEP_DEADLINE_MS })
      for (const cache of step.caches) await mustRun('umount', [join(root.directory, cache)], outside)
      return cwd
    }
  }
}
