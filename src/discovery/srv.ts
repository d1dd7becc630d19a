// The targets of a DNS SRV record (RFC 2782).

import { name, oneOf } from '../core/settings.ts'
import { discovery } from './discovery.ts'
import { unsupported } from './unsupported.ts'

export const srv = discovery(
  {
    settings: {
      /** The DNS server: `host:port`. */
      srv_lookup_server: name(),
      /** The record's name, fully qualified: `_http._tcp.example.com.` */
      srv_lookup_pattern: name(),
      srv_dns_protocol: oneOf(['udp', 'tcp']).default('udp'),
    },
    timeoutMs: 5_000,
  },
  unsupported('srv', 'asking a DNS server for SRV records'),
)
