#!/usr/bin/env node
import { Command, CommanderError } from 'commander'
import { addAccountCommands } from './cli/account.ts'
import { addApiKeyCommands } from './cli/api-keys.ts'
import { CommandFailure, exitCodes } from './cli/command-failure.ts'
import { startDemo } from './cli/demo.ts'
import { addImportCommand } from './cli/import.ts'
import { addLedgerCommands } from './cli/ledger.ts'
import { addMasterKeyCommands } from './cli/master-key.ts'
import { addTeamCommands } from './cli/teams.ts'
import { keepAlive } from './clock.ts'
import { processEnvironment, readConfig, type Setting, settings } from './config.ts'
import { StartError, UnavailableError } from './errors.ts'
import { type RunningServer, serve } from './serve.ts'
import { isBusy } from './storage/sqlite-dialect.ts'

const program = new Command('tollgate')
  .description('A self-hosted gateway with which an AI lab sells its models.')
  .showHelpAfterError()
  // Commander would end the process by itself; the exit code is ours to say, below.
  .exitOverride()

const serveCommand = program.command('serve').description('Serve inference and management until SIGTERM.')
for (const setting of Object.values(settings)) serveCommand.option(`${flagOf(setting)} <value>`, describe(setting))
serveCommand.action(async (options: Record<string, string>) => {
  const server = await serve(readConfig(processEnvironment(), flagValues(options)))
  const stopAsked = signalled()
  announce(server, banner(server))
  await stopAsked
  await server[Symbol.asyncDispose]()
})

program
  .command('demo')
  .description('Serve with a built-in demo model, a group tree and a key, and print calls to paste.')
  .action(async () => {
    const demo = await startDemo(readConfig(processEnvironment()))
    const stopAsked = signalled()
    announce(demo.server, demo.instructions)
    await stopAsked
    await demo[Symbol.asyncDispose]()
  })

addLedgerCommands(program)
addImportCommand(program)
addAccountCommands(program)
addApiKeyCommands(program)
addTeamCommands(program)
addMasterKeyCommands(program)

try {
  using _alive = keepAlive()
  await program.parseAsync()
} catch (error) {
  process.exitCode = exitCodeFor(error)
}

/** Tells what went wrong, where nobody has yet, and what to exit with. */
function exitCodeFor(error: unknown): number {
  if (error instanceof CommanderError) return error.exitCode === 0 ? exitCodes.ok : exitCodes.usage
  if (isBusy(error)) {
    process.stderr.write('tollgate: Another process keeps the embedded database locked. Try again when it is done.\n')
    return exitCodes.failure
  }
  const isExpected = error instanceof StartError || error instanceof CommandFailure || error instanceof UnavailableError
  if (!isExpected) throw error
  process.stderr.write(`tollgate: ${error.message}\n`)
  return error instanceof CommandFailure ? exitCodes[error.kind] : exitCodes.failure
}

/** Says that the server listens: in one line of JSON on stdout for programs, in words on stderr for people. */
function announce({ inference, management }: RunningServer, words: string): void {
  process.stdout.write(`${JSON.stringify({ event: 'listening', pid: process.pid, inference, management })}\n`)
  process.stderr.write(words)
}

/** Resolves when the process is asked to stop. Whoever reads that it listens may do so at once. */
function signalled(): Promise<void> {
  return new Promise((resolve) => {
    for (const signal of ['SIGTERM', 'SIGINT'] as const) process.once(signal, () => resolve())
  })
}

function banner({ inference, management, generatedBootstrapKey, dataDir }: RunningServer): string {
  const key = generatedBootstrapKey ?? '$WORKSPACE_KEY'
  const lines = [
    '',
    'Tollgate is up.',
    `  inference    ${inference}/v1`,
    `  management   ${management}/v1   (API reference: ${management}/docs)`,
    `  data         ${dataDir}`,
    ...(generatedBootstrapKey === null
      ? []
      : ['', 'Full-access key of the first workspace, shown this once:', `  ${generatedBootstrapKey}`]),
    '',
    'Try it:',
    `  curl ${management}/v1/gateway/groups -H 'Authorization: Api-Key ${key}'`,
    '',
    '',
  ]
  return lines.join('\n')
}

/** `TOLLGATE_LOG_LEVEL` is `--log-level` on the command line. */
function flagOf({ variable }: Setting): string {
  return `--${variable.replace('TOLLGATE_', '').toLowerCase().replaceAll('_', '-')}`
}

function describe({ variable, fallback, meaning }: Setting): string {
  return `${meaning} [${variable}${fallback === null ? '' : `, default ${fallback}`}]`
}

function flagValues(options: Record<string, string>): Record<string, string> {
  const variableOf = (option: string) => `TOLLGATE_${option.replace(/[A-Z]/g, '_$&').toUpperCase()}`
  return Object.fromEntries(Object.entries(options).map(([option, value]) => [variableOf(option), value]))
}
