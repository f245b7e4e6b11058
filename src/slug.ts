/** The longest slug, in characters: what is longer names no endpoint, wherever it is asked for. */
export const slugLengthMax = 255
