// Keys that gobetween configurations in the wild still carry, and what to write today.

const USE = new Map([
  ['globals', 'has no effect'],
  ['ping_timeout_duration', 'has no effect; use healthcheck.timeout'],
  ['exec_timeout_duration', 'has no effect; use timeout of the section'],
  [
    'exec_expected_output',
    'has no effect; use exec_expected_positive_output and exec_expected_negative_output',
  ],
  ['docker_cache_ttl', 'has no effect; use discovery.interval'],
  ['acme_enabled', 'has no effect; use tls.acme_hosts and an [acme] section'],
  ['acme_cache_dir', 'has no effect; use acme.cache_dir'],
  ['prefer_server_ciphers', 'has no effect'],
  ['transparent', 'has no effect here; use udp.transparent'],
])

/** What to say of a key that was valid once; undefined for any other. */
export function legacyAdvice(key: string): string | undefined {
  return USE.get(key)
}
