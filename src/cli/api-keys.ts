import { type Command, Option } from 'commander'
import { z } from 'zod'
import { workspaceKeyTypes } from '../access/permissions.ts'
import { callApi } from './api-client.ts'
import { type OutputFormat, outputOption, printRows } from './output.ts'
import { readProfile } from './profile.ts'

const path = '/v1/api_keys'
const Keys = z.object({ keys: z.array(z.record(z.string(), z.unknown())) })

/** `tollgate api-key …`: the workspace's own keys. */
export function addApiKeyCommands(program: Command): void {
  const command = program.command('api-key').description("Manage the workspace's own keys.")
  command
    .command('list')
    .description('List keys, by their public prefixes.')
    .addOption(outputOption())
    .action(async ({ output }: { output: OutputFormat }) => {
      const { keys } = await callApi(readProfile(), { method: 'GET', path, answer: Keys })
      printRows(keys, ['prefix', 'name', 'type', 'team_name', 'created_at', 'last_used_at'], output)
    })
  command
    .command('create')
    .description('Mint a key and print it, alone, on standard output: the only time that it is shown.')
    .addOption(new Option('--type <type>', 'What it may do').choices(workspaceKeyTypes).makeOptionMandatory())
    .option('--name <name>', 'Lowercase letters, digits and hyphens')
    .option('--model-id <ids...>', 'Only these models')
    .option('--environment <names...>', 'Only these environments')
    .option('--team <id>', 'A key of this team')
    .action(async ({ type, name, modelId, environment, team }: CreateOptions) => {
      const { api_key } = await callApi(readProfile(), {
        method: 'POST',
        path: team === undefined ? path : `/v1/teams/${encodeURIComponent(team)}/api_keys`,
        body: {
          type,
          ...(name === undefined ? {} : { name }),
          ...(modelId === undefined ? {} : { model_ids: modelId }),
          ...(environment === undefined ? {} : { environments: environment }),
        },
        answer: z.object({ api_key: z.string() }),
      })
      process.stderr.write('Keep it now: it is not shown again.\n')
      process.stdout.write(`${api_key}\n`)
    })
  command
    .command('rename')
    .description("Change a key's name.")
    .argument('<prefix>')
    .argument('<name>')
    .action(async (prefix: string, name: string) => {
      await callApi(readProfile(), { method: 'PATCH', path: keyPath(prefix), body: { name }, answer: z.unknown() })
    })
  command
    .command('delete')
    .description('Revoke a key, for good.')
    .argument('<prefix>')
    .action(async (prefix: string) => {
      await callApi(readProfile(), { method: 'DELETE', path: keyPath(prefix), answer: z.unknown() })
    })
}

interface CreateOptions {
  type: string
  name?: string
  modelId?: string[]
  environment?: string[]
  team?: string
}

function keyPath(prefix: string): string {
  return `${path}/${encodeURIComponent(prefix)}`
}
