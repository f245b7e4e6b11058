/** A process that takes messages and answers none. */
process.on('message', () => {})
