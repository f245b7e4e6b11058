import { createInterface, type Interface } from 'node:readline/promises'
import { Writable } from 'node:stream'
import { text } from 'node:stream/consumers'
import type { Command } from 'commander'
import { z } from 'zod'
import { callApi } from './api-client.ts'
import { CommandFailure } from './command-failure.ts'
import { type OutputFormat, outputOption, printRows } from './output.ts'
import { type Profile, readProfile, removeProfile, writeProfile } from './profile.ts'

const defaultUrl = 'http://127.0.0.1:8001'
const Me = z.object({
  user_id: z.string(),
  name: z.string().nullish(),
  email: z.string().nullish(),
  workspace_name: z.string().nullish(),
})

/** `tollgate login`, `logout` and `whoami`. */
export function addAccountCommands(program: Command): void {
  program
    .command('login')
    .description('Keep the URL and the API key that other commands use.')
    .option('--url <url>', 'The management URL')
    .option('--with-api-key', 'Read the key from standard input')
    .action(async (options: { url?: string; withApiKey?: boolean }) => {
      const profile = options.withApiKey ? await pipedProfile(options.url) : await askedProfile(options.url)
      const me = await whoIs(profile)
      process.stderr.write(`Logged in to ${me.workspace_name ?? profile.url}; kept in ${writeProfile(profile)}.\n`)
    })
  program
    .command('logout')
    .description('Forget the URL and the API key.')
    .action(() => removeProfile())
  program
    .command('whoami')
    .description('Show whose key it is.')
    .addOption(outputOption())
    .action(async ({ output }: { output: OutputFormat }) => {
      printRows([await whoIs(readProfile())], ['user_id', 'name', 'email', 'workspace_name'], output)
    })
}

function whoIs(profile: Profile): Promise<z.output<typeof Me>> {
  return callApi(profile, { method: 'GET', path: '/v1/users/me', answer: Me })
}

async function pipedProfile(url = defaultUrl): Promise<Profile> {
  return checked({ url, api_key: (await text(process.stdin)).trim() })
}

/** Asks at the terminal; the key is not shown while it is typed. */
async function askedProfile(givenUrl: string | undefined): Promise<Profile> {
  if (!process.stdin.isTTY) {
    throw new CommandFailure(
      'usage',
      'There is no terminal to ask at; use --with-api-key and give the key on standard input.',
    )
  }
  const screen = { muted: false }
  const output = new Writable({
    write(chunk, _encoding, done) {
      if (!screen.muted) process.stderr.write(chunk)
      done()
    },
  })
  using questions = createInterface({ input: process.stdin, output, terminal: process.stdin.isTTY })
  const url = givenUrl ?? ((await answered(questions, `Management URL [${defaultUrl}]: `)) || defaultUrl)
  const asked = answered(questions, 'API key: ')
  screen.muted = true
  const api_key = (await asked).trim()
  process.stderr.write('\n')
  return checked({ url, api_key })
}

async function answered(questions: Interface, question: string): Promise<string> {
  try {
    return await questions.question(question)
  } catch (cause) {
    process.stderr.write('\n')
    throw new CommandFailure('failure', 'You have not logged in; nothing was kept.', { cause })
  }
}

function checked(profile: Profile): Profile {
  if (!URL.canParse(profile.url)) throw new CommandFailure('usage', `'${profile.url}' is not a URL.`)
  if (profile.api_key === '') throw new CommandFailure('usage', 'There was no API key.')
  return profile
}
