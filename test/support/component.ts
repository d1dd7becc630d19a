// A real server that a test needs, started by a script of scripts/components.

/** How a script ended. */
interface Started {
  readonly status: number | null
  readonly stderr: string
}

/**
 * Why a test with real servers cannot run here, in the words of the scripts that should have started them: not
 * installed, or this machine does not let them. False when all have started.
 */
export function whyNot(...started: readonly Started[]): string | false {
  const failed = started.filter(({ status }) => status !== 0)
  return failed.length > 0 && failed.map(reason).join('; ')
}

function reason({ status, stderr }: Started): string {
  const said = stderr.trim().split('\n').slice(-3).join(' | ')
  return status === 3 ? said : `it cannot be started here (${status ?? 'killed'}): ${said}`
}
