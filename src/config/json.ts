// Where JSON breaks: what `JSON.parse` says of it differs from release to release and often lacks the place.

const TOKEN =
  /[\t\n\r ]*(?:([{}[\],:])|("(?:[^"\\\u0000-\u001f]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*")|(-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][-+]?\d+)?(?![\w.])|(?:true|false|null)(?!\w)))/y

type Wanted = 'value' | 'value or end' | 'key' | 'key or end' | 'colon' | 'comma' | 'nothing'

const WORDS: Record<Wanted, string> = {
  value: 'a value',
  'value or end': 'a value or "]"',
  key: 'a name in double quotes',
  'key or end': 'a name in double quotes or "}"',
  colon: '":"',
  comma: '"," or the end of the list or object',
  nothing: 'the end of the document',
}

/** The offset of the first thing in `text` that is not JSON, and what was expected; undefined when it is JSON. */
export function jsonFault(text: string): { at: number; why: string } | undefined {
  const open: ('{' | '[')[] = []
  let wanted: Wanted = 'value'
  TOKEN.lastIndex = 0
  for (;;) {
    const from = TOKEN.lastIndex
    const token = TOKEN.exec(text)
    const next: Wanted | undefined = token ? step(wanted, token, open) : undefined
    if (next) wanted = next
    else {
      const at = skipBlanks(text, from)
      return at === text.length && wanted === 'nothing' ? undefined : fault(text, at, wanted)
    }
  }
}

/** What may follow `token`; undefined when it may not stand here. `open` follows the brackets. */
function step(wanted: Wanted, token: RegExpExecArray, open: ('{' | '[')[]): Wanted | undefined {
  const [, mark, text, literal] = token
  const takesValue = wanted === 'value' || wanted === 'value or end'
  const takesKey = wanted === 'key' || wanted === 'key or end'
  if (text !== undefined && takesKey) return 'colon'
  if ((text ?? literal) !== undefined) return takesValue ? after(open) : undefined
  if (mark === ':') return wanted === 'colon' ? 'value' : undefined
  if (mark === ',') return wanted === 'comma' ? (open.at(-1) === '{' ? 'key' : 'value') : undefined
  if (mark === '{' || mark === '[') {
    if (!takesValue) return undefined
    open.push(mark)
    return mark === '{' ? 'key or end' : 'value or end'
  }
  const closes = mark === '}' ? '{' : '['
  const empty = mark === '}' ? 'key or end' : 'value or end'
  if (open.at(-1) !== closes || (wanted !== 'comma' && wanted !== empty)) return undefined
  open.pop()
  return after(open)
}

function after(open: readonly string[]): Wanted {
  return open.length > 0 ? 'comma' : 'nothing'
}

function skipBlanks(text: string, from: number): number {
  let at = from
  while (at < text.length && '\t\n\r '.includes(text[at]!)) at++
  return at
}

function fault(text: string, at: number, wanted: Wanted): { at: number; why: string } {
  const found = /^(?:"[^"\n]{0,30}"?|[\w.+-]{1,30}|.)/su.exec(text.slice(at, at + 40))?.[0]
  const quoted = found?.startsWith('"') ? found : JSON.stringify(found)
  const got = found === undefined ? 'the end of the text' : quoted
  return { at, why: `expected ${WORDS[wanted]}, got ${got}` }
}
