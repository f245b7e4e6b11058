/** Child processes are made of what `executable` says, and not of Node, until it is disposed of. */
export function madeOf(executable: () => string): Disposable {
  const { execPath } = process
  Object.defineProperty(process, 'execPath', { get: executable, configurable: true })
  return {
    [Symbol.dispose]() {
      Object.defineProperty(process, 'execPath', { value: execPath, configurable: true })
    },
  }
}
