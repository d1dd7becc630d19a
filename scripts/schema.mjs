// Writes schema.json and the tables of docs/configuration.md from the built schema: npm run build, then this.
import { readFileSync, writeFileSync } from 'node:fs'
import { fillTables, jsonSchema } from '../dist/config/reference.js'

const docs = new URL('../docs/configuration.md', import.meta.url)
writeFileSync(new URL('../schema.json', import.meta.url), JSON.stringify(jsonSchema(), null, 2) + '\n')
writeFileSync(docs, fillTables(readFileSync(docs, 'utf8')))
