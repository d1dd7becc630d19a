// The containers of a Docker daemon that publish a port.

import { count, flag, name, text } from '../core/settings.ts'
import { discovery } from './discovery.ts'
import { unsupported } from './unsupported.ts'

export const docker = discovery(
  {
    settings: {
      /** The daemon: `http://host:port` or `unix:///path`. */
      docker_endpoint: name(),
      /** Only containers with this label: `key` or `key=value`. */
      docker_container_label: text().default(''),
      /** The port inside the container whose published mapping is the backend's. */
      docker_container_private_port: count().default(0),
      /** Environment variable of a container that holds the backend's host. */
      docker_container_host_env_var: text().default(''),
      docker_tls_enabled: flag().default(false),
      docker_tls_cert_path: text().default(''),
      docker_tls_key_path: text().default(''),
      docker_tls_cacert_path: text().default(''),
    },
    timeoutMs: 5_000,
  },
  unsupported('docker', 'listing the containers of a Docker daemon'),
)
