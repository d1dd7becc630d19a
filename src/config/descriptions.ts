// What the keys mean that are declared by kinds: their schemas say what is valid, this says what for.

/** Section, then key; `section.kind` where two kinds mean different things by one key. */
export const DESCRIPTIONS: Readonly<Record<string, Readonly<Record<string, string>>>> = {
  server: {
    hash_key:
      'What of a client is hashed: its address (client), or its /24 (IPv4) or /64 (IPv6) network (prefix).',
    hash_balance_factor:
      'Most load of one backend in percent of the mean; what is above goes to the next in the table; 0 is no bound.',
  },
  access: {
    default: 'What becomes of a client no rule names.',
    rules: 'Rules such as "allow 10.0.0.0/8" or "deny 2001:db8::1"; the first that matches decides.',
  },
  discovery: {
    kind: 'How backends are found.',
    failpolicy:
      'What happens while the source fails: the last list stays (keeplast), or no backend is left (setempty).',
    interval: 'Time between two questions; "0" asks until it has worked once.',
    timeout: 'Longest one question may take; unset is what the kind usually needs, "0" is no limit.',
    static_list:
      'Backends, each "host:port" and then weight=, priority=, max_connections= and sni= as wanted.',
    srv_lookup_server: 'DNS server to ask, host:port.',
    srv_lookup_pattern: 'Name of the record, fully qualified, such as "_http._tcp.example.com.".',
    srv_dns_protocol: 'How the DNS server is asked.',
    docker_endpoint:
      'Docker daemon to ask, such as "http://localhost:2375" or "unix:///var/run/docker.sock".',
    docker_container_label: 'Label containers must have, "key" or "key=value"; empty takes all.',
    docker_container_private_port: 'Port inside the container whose published port is the backend.',
    docker_container_host_env_var: 'Environment variable of a container that holds the host of the backend.',
    docker_tls_enabled: 'Asks the Docker daemon over TLS.',
    docker_tls_cert_path: 'File with the client certificate, PEM.',
    docker_tls_key_path: 'File with the private key of the client certificate, PEM.',
    docker_tls_cacert_path: 'File with the CA certificates to trust, PEM.',
    json_endpoint: 'URL of a JSON array with an element for each backend.',
    json_host_pattern:
      'Path to the host inside an element, steps parted by dots, "[0]" for a place in a list.',
    json_port_pattern: 'Path to the port inside an element.',
    json_weight_pattern: 'Path to the weight inside an element.',
    json_priority_pattern: 'Path to the priority inside an element.',
    json_sni_pattern: 'Path to the TLS server name inside an element.',
    json_max_connections_pattern: 'Path to the connection limit inside an element.',
    exec_command: 'Program and its arguments, run without a shell; it prints a backend a line.',
    plaintext_endpoint: 'URL of a text with a backend a line.',
    plaintext_regex_pattern:
      'Regular expression (RE2) for a line, with groups named host, port, weight, priority, max_connections and sni.',
    consul_host: 'Consul agent to ask, host:port.',
    consul_service_name: 'Service whose instances are the backends.',
    consul_service_tag: 'Tag instances must have; empty takes all.',
    consul_service_passing_only: 'Takes only instances whose checks in Consul pass.',
    consul_datacenter: 'Datacenter to ask for; empty is that of the agent.',
    consul_service_datacenter: 'Another name of consul_datacenter.',
    consul_auth_username: 'User name for HTTP basic auth at the agent.',
    consul_auth_password: 'Password for HTTP basic auth at the agent.',
    consul_acl_token: 'ACL token for the agent.',
    consul_tls_enabled: 'Asks the agent over TLS.',
    consul_tls_cert_path: 'File with the client certificate, PEM.',
    consul_tls_key_path: 'File with the private key of the client certificate, PEM.',
    consul_tls_cacert_path: 'File with the CA certificates to trust, PEM.',
    lxd_server_address:
      'LXD server to ask, such as "https://10.0.0.1:8443" or "unix:///var/lib/lxd/unix.socket".',
    lxd_server_remote_name: 'Name of the server in the client configuration.',
    lxd_server_remote_password: 'Password that makes the server trust the client certificate.',
    lxd_config_directory: 'Folder with the client certificates; unset is .config/lxc in the home directory.',
    lxd_generate_client_certs: 'Makes a client certificate when there is none.',
    lxd_accept_server_cert: 'Trusts the certificate the server shows at first and keeps it.',
    lxd_container_label_key: 'Configuration key containers must have; empty takes all.',
    lxd_container_label_value: 'Value that configuration key must have; empty takes any.',
    lxd_container_port: 'Port of the backends.',
    lxd_container_port_key: 'Configuration key of a container that holds its port.',
    lxd_container_interface: 'Network interface whose address is the host of the backend.',
    lxd_container_interface_key: 'Configuration key of a container that holds its interface.',
    lxd_container_sni_key: 'Configuration key of a container that holds its TLS server name.',
    lxd_container_address_type: 'Which address of the interface is used.',
  },
  healthcheck: {
    kind: 'How backends are checked.',
    interval: 'Time between the beginnings of two checks of one backend; above 0 for every kind but none.',
    timeout: 'Longest one check may take; "0" is the interval, but at least 1s.',
    passes: 'Checks in a row that must pass before a backend counts as healthy.',
    fails: 'Checks in a row that must fail before a backend counts as unhealthy.',
    initial_status: 'What a backend counts as before its first check; unset is healthy.',
    exec_command: 'Path of a program that is called with host and port of the backend.',
    exec_expected_positive_output: 'Output that means healthy; blanks around it do not count.',
    exec_expected_negative_output: 'Output that means unhealthy; any other output changes nothing.',
    probe_protocol: 'How the backend is spoken to.',
    probe_strategy:
      'How the answer is judged: it begins with probe_recv, or matches it as a regular expression (RE2).',
    probe_send: 'What is sent, with the escapes of Go such as \\r\\n and \\x00.',
    probe_recv: 'What must come back: text with the escapes of Go, or a regular expression.',
    probe_recv_len:
      'Bytes to read before the regular expression looks at them; only for regexp, and needed there.',
  },
}
