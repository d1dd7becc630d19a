// The cases of the kinds that fetch a document: they differ in what it says, and in the names of their keys.

import type { Test } from 'tap'
import { documents, dripping, pouring, saying } from '../../support/documents.ts'
import type { Documents } from '../../support/documents.ts'
import { freePort } from '../../support/spawned.ts'
import type { Asked, Failing, Fixture, Section } from './fixture.ts'

type Answer = Parameters<typeof documents>[1]

/** What a kind's documents look like. */
export interface Written {
  readonly kind: 'json' | 'plaintext'
  readonly list: string
  readonly empty: string
  readonly garbage: string
  readonly rejected: readonly [RegExp, RegExp]
  /** Answers that cannot be read at all. */
  readonly unreadable: readonly { readonly body: string; readonly message: RegExp }[]
  readonly wrong: Section
}

export function webFixture({ kind, list, empty, garbage, rejected, unreadable, wrong }: Written): Fixture {
  const section = ({ origin }: Documents): Section => ({ [`${kind}_endpoint`]: `${origin}/backends` })
  const served = async (t: Test, answer: Answer) => section(await documents(t, answer))

  async function asked(t: Test, answer: Answer): Promise<Asked> {
    const server = await documents(t, answer)
    return {
      section: section(server),
      begun: () => server.asked.length > 0,
      over: () => server.open() === 0,
    }
  }

  async function fails(t: Test): Promise<Failing[]> {
    const failing = async (answer: Answer, message: RegExp) => ({ section: await served(t, answer), message })
    return [
      await failing(saying(500, `<h1>\n  oops</h1>\n${list}`), /\/backends answered 500: "<h1> oops<\/h1> /),
      await failing(saying(404, ''), /answered 404$/),
      await failing(saying(304, ''), /answered 304$/),
      await failing(saying(302, '', { location: '/again' }), /too many redirects/),
      await failing(saying(302, '', { location: 'ftp://x/' }), /http:\/\/ or https:\/\/, got ftp:/),
      await failing((_, response) => void response.socket!.destroy(), /socket hang up/),
      await failing((_, response) => {
        response.writeHead(200, { 'content-length': '1000' })
        response.write(list, () => response.destroy())
      }, /closed in the middle of the answer/),
      { section: { [`${kind}_endpoint`]: `http://127.0.0.1:${await freePort()}/` }, message: /ECONNREFUSED/ },
      ...(await Promise.all(unreadable.map(({ body, message }) => failing(saying(200, body), message)))),
    ]
  }

  return {
    lists: (t) => served(t, saying(200, list)),
    empty: (t) => served(t, saying(200, empty)),
    garbage: async (t) => ({ section: await served(t, saying(200, garbage)), rejected }),
    fails,
    hangs: (t) => asked(t, () => {}),
    slow: (t) => asked(t, dripping(list)),
    async huge(t) {
      const piece = Buffer.from(list.replaceAll(']', ' ').repeat(1000))
      const { section, over } = await asked(t, pouring(piece))
      return { section, over, message: /larger than 16 MiB/ }
    },
    changes: 'a document is not heard of until it is fetched again',
    wrong: {
      [`${kind}_endpoint`]: 'ftp://registry/backends',
      [`${kind}_headers`]: { 'X Y': '1' },
      [`${kind}_tls_skip_verify`]: 'maybe',
      ...wrong,
    },
  }
}
