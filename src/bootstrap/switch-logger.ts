/** A logger whose level can change while it is used. */
import type { LogLevel, Logger } from '../base/index.ts'

/** The logger and the way to change it. */
export interface SwitchLogger { log: Logger, setLevel: (level: LogLevel) => void }

/** Wraps what `create` gives for a level; children follow. */
export function createSwitchLogger (create: (level: LogLevel) => Logger, level: LogLevel): SwitchLogger {
  let root = create(level)

  function follow (of: () => Logger): Logger {
    let made: { root: Logger, log: Logger } | undefined
    const current = (): Logger => {
      if (made?.root !== root) made = { root, log: of() }
      return made.log
    }
    return {
      debug: (message, fields) => { current().debug(message, fields) },
      info: (message, fields) => { current().info(message, fields) },
      warn: (message, fields) => { current().warn(message, fields) },
      error: (message, fields) => { current().error(message, fields) },
      child: (scope) => follow(() => current().child(scope))
    }
  }

  return { log: follow(() => root), setLevel: (next) => { root = create(next) } }
}
