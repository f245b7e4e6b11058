import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { readdirSync, readFileSync } from 'node:fs'
import { connect } from 'node:net'
import { setTimeout as pause } from 'node:timers/promises'

/** A program that runs for as long as this is not disposed of, with what the operating system says of it. */
export interface Running extends AsyncDisposable {
  pid: number
  /** CPU time of the process, its threads and its descendants, in seconds: all since their start. */
  cpuSeconds(): number
  /** Resident memory of the process and its descendants. */
  residentBytes(): number
}

export interface Command {
  program: string
  arguments: readonly string[]
  /** Where it accepts connections once it has started. */
  port: number
  environment?: Record<string, string>
}

/** Resolves once the program accepts connections on its port. */
export async function start({ program, arguments: given, port, environment = {} }: Command): Promise<Running> {
  const child = spawn(program, given, {
    stdio: 'ignore',
    env: { ...process.env, ...environment },
  })
  await Promise.race([accepts(port), failed(child, program)])
  const pid = Number(child.pid)
  return {
    pid,
    cpuSeconds: () => cpuSecondsOfAll(pid),
    residentBytes: () => sum(family(pid).map(residentBytes)),
    async [Symbol.asyncDispose]() {
      if (child.exitCode !== null) return
      const exited = once(child, 'exit')
      child.kill('SIGTERM')
      const timer = setTimeout(() => child.kill('SIGKILL'), 10_000)
      await exited
      clearTimeout(timer)
    },
  }
}

/** Resolves once the gateway has no work left of earlier requests, such as events to ship. */
export async function settled({ cpuSeconds }: Running): Promise<void> {
  const isIdleBelow = 0.02
  for (let waited = 0; waited < 100; waited++) {
    const before = cpuSeconds()
    await pause(500)
    if (cpuSeconds() - before < isIdleBelow) return
  }
  throw new Error('A gateway does not come to rest after the last request.')
}

/**
 * Ends the garbage of a Node process, so that what is resident afterwards is in use: asks it through the inspector, to
 * which a process listens after SIGUSR1 on the port that it was started with.
 */
export async function collectGarbage({ pid }: Running, inspectPort: number): Promise<void> {
  process.kill(pid, 'SIGUSR1')
  await accepts(inspectPort)
  const answer = await fetch(`http://127.0.0.1:${inspectPort}/json/list`)
  const [target]: { webSocketDebuggerUrl: string }[] = JSON.parse(await answer.text())
  const socket = new WebSocket(String(target?.webSocketDebuggerUrl))
  await once(socket, 'open')
  socket.send(JSON.stringify({ id: 1, method: 'HeapProfiler.collectGarbage' }))
  await once(socket, 'message')
  socket.close()
}

/** CPU time of a process and its descendants, in seconds: all since their start. */
export function cpuSecondsOfAll(pid: number): number {
  return sum(family(pid).map(cpuSeconds))
}

async function failed(child: ChildProcess, program: string): Promise<never> {
  const [reason] = await once(child, 'exit')
  throw new Error(`${program} ended before it accepted connections (${reason}).`)
}

async function accepts(port: number): Promise<void> {
  for (let attempt = 0; attempt < 200; attempt++) {
    const socket = connect(port, '127.0.0.1')
    try {
      await once(socket, 'connect')
      return
    } catch {
      await pause(50)
    } finally {
      socket.destroy()
    }
  }
  throw new Error(`Nothing accepts connections on port ${port}.`)
}

/** The process and all below it. */
function family(pid: number): number[] {
  const parentOf = new Map(processIds().map((id) => [id, Number(statFields(id)[1])]))
  const members = [pid]
  for (const member of members) {
    for (const [id, parent] of parentOf) if (parent === member) members.push(id)
  }
  return members
}

function processIds(): number[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map(Number)
}

/** What stands behind the name in /proc/PID/stat (proc(5)): field 3 comes first. Empty once the process is gone. */
function statFields(pid: number): string[] {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, 'utf8')
    return text.slice(text.lastIndexOf(')') + 2).split(' ')
  } catch {
    return []
  }
}

const ticksPerSecond = 100

/** Its own, and that of children which have ended. */
function cpuSeconds(pid: number): number {
  return sum(statFields(pid).slice(11, 15).map(Number)) / ticksPerSecond
}

function residentBytes(pid: number): number {
  const kilobytes = /^VmRSS:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]
  return Number(kilobytes ?? 0) * 1024
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, number) => total + number, 0)
}
