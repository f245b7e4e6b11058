import { counterBackends } from '../support/counter-backends.ts'
import { counterStoreSuite } from './counter-store.suite.ts'

for (const backend of counterBackends) counterStoreSuite(backend)
