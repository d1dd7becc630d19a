// The requests a proxy is driven with, and what each may cost.

/**
 * `portable` is the most processor time a request may cost that plane, in those of HAProxy without settings;
 * `native` that plane, in those of the best variant of HAProxy or nginx. `key` is its name on the command line; those
 * that are `small` are relayed by the barest relay, too.
 */
export const WORKLOADS = [
  { key: 'keep', name: 'keep-alive request', goals: { portable: 1.5, native: 0.95 }, small: true, load: {} },
  {
    key: 'close',
    name: 'connect, request, close',
    goals: { portable: 2.2, native: 1.0 },
    small: true,
    load: { close: true },
  },
  {
    key: '64k',
    name: '64 KiB body',
    goals: { portable: 1.1, native: 0.95 },
    load: { path: '/64k', bytes: 64 * 1024 },
  },
  {
    key: '10m',
    name: '10 MiB body',
    goals: { portable: 1.1, native: 0.65 },
    load: { path: '/10m', bytes: 10 * 1024 * 1024, connections: 8, seconds: 3 },
  },
]
