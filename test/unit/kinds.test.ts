// What each discovery kind does beyond the contract; a file a kind, run in one process.

import './kinds/consul.ts'
import './kinds/docker.ts'
import './kinds/lxd.ts'
import './kinds/sources.ts'
import './kinds/srv.ts'
