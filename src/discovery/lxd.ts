// The running containers of an LXD server.

import { count, flag, name, oneOf, text } from '../core/settings.ts'
import { discovery } from './discovery.ts'
import { unsupported } from './unsupported.ts'

const ADDRESS = 'an address that starts with "https:" or "unix:"'

export const lxd = discovery(
  {
    settings: {
      lxd_server_address: text()
        .refine((value) => /^(https|unix):/.test(value), { error: ADDRESS })
        .describe('LXD server to ask, such as "https://10.0.0.1:8443" or "unix:///var/lib/lxd/unix.socket".'),
      lxd_server_remote_name: name()
        .default('local')
        .describe('Name of the server in the client configuration.'),
      lxd_server_remote_password: text()
        .default('')
        .describe('Password that makes the server trust the client certificate.'),
      lxd_config_directory: text()
        .optional()
        .describe('Folder with the client certificates; unset is .config/lxc in the home directory.'),
      lxd_generate_client_certs: flag()
        .default(false)
        .describe('Makes a client certificate when there is none.'),
      lxd_accept_server_cert: flag()
        .default(false)
        .describe('Trusts the certificate the server shows at first and keeps it.'),
      lxd_container_label_key: text()
        .default('')
        .describe('Configuration key containers must have; empty takes all.'),
      lxd_container_label_value: text()
        .default('')
        .describe('Value that configuration key must have; empty takes any.'),
      lxd_container_port: count().default(0).describe('Port of the backends.'),
      lxd_container_port_key: text()
        .default('')
        .describe('Configuration key of a container that holds its port.'),
      lxd_container_interface: name()
        .default('eth0')
        .describe('Network interface whose address is the host of the backend.'),
      lxd_container_interface_key: text()
        .default('')
        .describe('Configuration key of a container that holds its interface.'),
      lxd_container_sni_key: text()
        .default('')
        .describe('Configuration key of a container that holds its TLS server name.'),
      lxd_container_address_type: oneOf(['IPv4', 'IPv6'])
        .default('IPv4')
        .describe('Which address of the interface is used.'),
    },
    timeoutMs: 5_000,
    source: ({ lxd_server_address }) => `lxd ${lxd_server_address}`,
  },
  unsupported('lxd', 'listing the containers of an LXD server'),
)
