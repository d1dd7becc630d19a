// The containers of a Docker daemon that publish a port.

import { count, flag, name, text } from '../core/settings.ts'
import { discovery } from './discovery.ts'
import { unsupported } from './unsupported.ts'

export const docker = discovery(
  {
    settings: {
      docker_endpoint: name().describe(
        'Docker daemon to ask, such as "http://localhost:2375" or "unix:///var/run/docker.sock".',
      ),
      docker_container_label: text()
        .default('')
        .describe('Label containers must have, "key" or "key=value"; empty takes all.'),
      docker_container_private_port: count()
        .default(0)
        .describe('Port inside the container whose published port is the backend.'),
      docker_container_host_env_var: text()
        .default('')
        .describe('Environment variable of a container that holds the host of the backend.'),
      docker_tls_enabled: flag().default(false).describe('Asks the Docker daemon over TLS.'),
      docker_tls_cert_path: text().default('').describe('File with the client certificate, PEM.'),
      docker_tls_key_path: text()
        .default('')
        .describe('File with the private key of the client certificate, PEM.'),
      docker_tls_cacert_path: text().default('').describe('File with the CA certificates to trust, PEM.'),
    },
    timeoutMs: 5_000,
    source: ({ docker_endpoint }) => `docker ${docker_endpoint}`,
  },
  unsupported('docker', 'listing the containers of a Docker daemon'),
)
