// The targets of a DNS SRV record (RFC 2782).

import { name, oneOf } from '../core/settings.ts'
import { discovery } from './discovery.ts'
import { unsupported } from './unsupported.ts'

export const srv = discovery(
  {
    settings: {
      srv_lookup_server: name().describe('DNS server to ask, host:port.'),
      srv_lookup_pattern: name().describe(
        'Name of the record, fully qualified, such as "_http._tcp.example.com.".',
      ),
      srv_dns_protocol: oneOf(['udp', 'tcp']).default('udp').describe('How the DNS server is asked.'),
    },
    timeoutMs: 5_000,
    source: ({ srv_lookup_pattern, srv_lookup_server }) =>
      `srv ${srv_lookup_pattern} at ${srv_lookup_server}`,
  },
  unsupported('srv', 'asking a DNS server for SRV records'),
)
