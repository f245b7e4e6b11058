import type { Command } from 'commander'
import { z } from 'zod'
import { callApi } from './api-client.ts'
import { type OutputFormat, outputOption, printRows } from './output.ts'
import { readProfile } from './profile.ts'

const path = '/v1/teams'
const Team = z.record(z.string(), z.unknown())
const columns = ['id', 'name', 'default', 'created_at']

/** `tollgate team …`. */
export function addTeamCommands(program: Command): void {
  const command = program.command('team').description('Manage teams.')
  command
    .command('list')
    .description('List teams.')
    .addOption(outputOption())
    .action(async ({ output }: { output: OutputFormat }) => {
      const answer = z.object({ teams: z.array(Team) })
      const { teams } = await callApi(readProfile(), { method: 'GET', path, answer })
      printRows(teams, columns, output)
    })
  command
    .command('create')
    .description('Create a team.')
    .argument('<name>')
    .addOption(outputOption())
    .action(async (name: string, { output }: { output: OutputFormat }) => {
      printRows([await callApi(readProfile(), { method: 'POST', path, body: { name }, answer: Team })], columns, output)
    })
  command
    .command('delete')
    .description('Delete a team, and revoke its keys.')
    .argument('<id>')
    .action(async (id: string) => {
      const teamPath = `${path}/${encodeURIComponent(id)}`
      await callApi(readProfile(), { method: 'DELETE', path: teamPath, answer: z.unknown() })
    })
}
