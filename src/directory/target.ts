/** One place that serves an endpoint, ready to be called. */
export interface Target {
  /** The registered model and its environment; null for a provider's model. */
  modelId: string | null
  environmentName: string | null
  /** Scheme, host and port, as pools of connections are kept by. */
  origin: string
  /** What stands before `/chat/completions`, without a slash at its end; '' when nothing does. */
  basePath: string
  /** The model's name upstream; null when it is the slug itself. */
  targetModel: string | null
  /** Names and values in turn: the lab's own credential for this upstream. */
  credentialHeaders: readonly string[]
}
