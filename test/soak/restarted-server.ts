import { type ServedProcess, startServed } from '../support/served-process.ts'

/** A server that is ended and started again, on the same folder. Its addresses are those of its present life. */
export class RestartedServer implements AsyncDisposable {
  /** How often it has been started. */
  life = 1
  kills = 0
  readonly #folder: string
  #process: ServedProcess

  private constructor(folder: string, process: ServedProcess) {
    this.#folder = folder
    this.#process = process
  }

  static async start(folder: string): Promise<RestartedServer> {
    return new RestartedServer(folder, await startServed(folder))
  }

  get inference(): string {
    return this.#process.inference
  }

  get management(): string {
    return this.#process.management
  }

  /** Ends it between two instructions. */
  async kill(): Promise<void> {
    this.kills += 1
    await this.#process.kill()
    await this.#startAgain()
  }

  /** Asks it to stop; resolves with the exit code of the life that ended. */
  async stop(): Promise<number | null> {
    const exitCode = await this.#process.stop()
    await this.#startAgain()
    return exitCode
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#process[Symbol.asyncDispose]()
  }

  async #startAgain(): Promise<void> {
    this.#process = await startServed(this.#folder)
    this.life += 1
  }
}
