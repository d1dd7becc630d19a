#!/bin/sh
# Prints the servers of the Consul cluster, as the agent beside the balancer knows them: ADDRESS:8500, a line each.
set -eu
agent=${CONSUL_HTTP_ADDR:-127.0.0.1:8500}
# Into a variable first: the status of a pipe would be that of jq, which is content with nothing.
servers=$(curl -sS --fail --max-time 4 "http://$agent/v1/catalog/service/consul")
printf '%s' "$servers" | jq -r '.[] | .Address + ":8500"'
