// The instances of a service in Consul.

import { flag, name, text } from '../core/settings.ts'
import { discovery } from './discovery.ts'
import { unsupported } from './unsupported.ts'

export const consul = discovery(
  {
    settings: {
      /** The agent: `host:port`. */
      consul_host: name(),
      consul_service_name: name(),
      /** Only instances with this tag. */
      consul_service_tag: text().default(''),
      /** Only instances whose Consul checks pass. */
      consul_service_passing_only: flag().default(false),
      /** Empty: the agent's own. */
      consul_datacenter: text().default(''),
      /** Another name of `consul_datacenter`: the one gobetween's sample file documents. */
      consul_service_datacenter: text().default(''),
      consul_auth_username: text().default(''),
      consul_auth_password: text().default(''),
      consul_acl_token: text().default(''),
      consul_tls_enabled: flag().default(false),
      consul_tls_cert_path: text().default(''),
      consul_tls_key_path: text().default(''),
      consul_tls_cacert_path: text().default(''),
    },
    timeoutMs: 2_000,
  },
  unsupported('consul', 'asking Consul for the instances of a service'),
)
