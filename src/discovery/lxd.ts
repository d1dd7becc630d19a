// The running containers of an LXD server.

import { count, flag, name, oneOf, text } from '../core/settings.ts'
import { discovery } from './discovery.ts'
import { unsupported } from './unsupported.ts'

const ADDRESS = 'an address that starts with "https:" or "unix:"'

export const lxd = discovery(
  {
    settings: {
      lxd_server_address: text().refine((value) => /^(https|unix):/.test(value), { error: ADDRESS }),
      lxd_server_remote_name: name().default('local'),
      lxd_server_remote_password: text().default(''),
      /** Where the client's certificates are; unset: `.config/lxc` in the home directory. */
      lxd_config_directory: text().optional(),
      lxd_generate_client_certs: flag().default(false),
      lxd_accept_server_cert: flag().default(false),
      /** Only containers with this configuration key, and this value if one is given. */
      lxd_container_label_key: text().default(''),
      lxd_container_label_value: text().default(''),
      lxd_container_port: count().default(0),
      /** Configuration key of a container that holds its port; likewise the keys below. */
      lxd_container_port_key: text().default(''),
      lxd_container_interface: name().default('eth0'),
      lxd_container_interface_key: text().default(''),
      lxd_container_sni_key: text().default(''),
      lxd_container_address_type: oneOf(['IPv4', 'IPv6']).default('IPv4'),
    },
    timeoutMs: 5_000,
  },
  unsupported('lxd', 'listing the containers of an LXD server'),
)
