// The instances of a service in Consul.

import { flag, name, text } from '../core/settings.ts'
import { discovery } from './discovery.ts'
import { unsupported } from './unsupported.ts'

export const consul = discovery(
  {
    settings: {
      consul_host: name().describe('Consul agent to ask, host:port.'),
      consul_service_name: name().describe('Service whose instances are the backends.'),
      consul_service_tag: text().default('').describe('Tag instances must have; empty takes all.'),
      consul_service_passing_only: flag()
        .default(false)
        .describe('Takes only instances whose checks in Consul pass.'),
      consul_datacenter: text().default('').describe('Datacenter to ask for; empty is that of the agent.'),
      consul_service_datacenter: text().default('').describe('Another name of consul_datacenter.'),
      consul_auth_username: text().default('').describe('User name for HTTP basic auth at the agent.'),
      consul_auth_password: text().default('').describe('Password for HTTP basic auth at the agent.'),
      consul_acl_token: text().default('').describe('ACL token for the agent.'),
      consul_tls_enabled: flag().default(false).describe('Asks the agent over TLS.'),
      consul_tls_cert_path: text().default('').describe('File with the client certificate, PEM.'),
      consul_tls_key_path: text()
        .default('')
        .describe('File with the private key of the client certificate, PEM.'),
      consul_tls_cacert_path: text().default('').describe('File with the CA certificates to trust, PEM.'),
    },
    timeoutMs: 2_000,
    source: ({ consul_host, consul_service_name }) => `consul ${consul_service_name} at ${consul_host}`,
  },
  unsupported('consul', 'asking Consul for the instances of a service'),
)
