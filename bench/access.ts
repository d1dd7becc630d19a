// What access rules cost: to load, and to look up one client.
//
//   npx tsc -p tsconfig.build.json && node --import @tapjs/typescript/import bench/access.ts

const built = new URL('../dist/access/rules.js', import.meta.url).href
const { compileAccess } = (await import(built)) as typeof import('../src/access/rules.ts')

const families = {
  ipv4: (i: number) => `10.${(i >> 12) & 255}.${(i >> 4) & 255}.${(i & 15) << 4}/28`,
  ipv6: (i: number) => `2001:db8:${(i >> 8).toString(16)}:${(i & 255).toString(16)}::/64`,
}
const client = {
  ipv4: () => Uint8Array.from([10, byte(), byte(), byte()]),
  ipv6: () => Uint8Array.from([0x20, 1, 0xd, 0xb8, 0, byte(), byte(), byte(), ...new Uint8Array(8)]),
}

for (const family of ['ipv4', 'ipv6'] as const) {
  for (const count of [10, 1000, 100_000]) {
    const rules = Array.from(
      { length: count },
      (_, i) => `${i % 3 ? 'allow' : 'deny'} ${families[family](i)}`,
    )
    const began = performance.now()
    const access = compileAccess({ default: 'deny', rules })
    const loadMs = performance.now() - began
    const clients = Array.from({ length: 4096 }, client[family])
    console.log(
      `${family} ${count} rules: load ${loadMs.toFixed(1)} ms, look-up ${lookUpNs(access, clients).toFixed(0)} ns`,
    )
  }
}

function lookUpNs(access: ReturnType<typeof compileAccess>, clients: Uint8Array[]): number {
  let best = Infinity
  for (let round = 0; round < 6; round++) {
    const began = performance.now()
    for (let i = 0; i < 1_000_000; i++) access.allows(clients[i & 4095]!)
    best = Math.min(best, performance.now() - began)
  }
  return best
}

function byte(): number {
  return Math.floor(Math.random() * 256)
}
