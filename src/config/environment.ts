// `${NAME}` in the text of a configuration, replaced before the text is parsed.

/** What a process is told by those who start it. */
export type Environment = Readonly<Record<string, string | undefined>>

/**
 * `text` with each `${NAME}` replaced by the variable, empty when it is not set, and each
 * `${NAME:-default}` by the default when the variable is unset or empty. Comments are not spared.
 */
export function substitute(text: string, environment: Environment): string {
  return text.replace(/\$\{(.*?)\}/g, (_, inside: string) => {
    const [name, ...fallback] = inside.split(':-')
    const value = Object.hasOwn(environment, name!) ? environment[name!] : undefined
    return value || fallback.join(':-') || ''
  })
}
