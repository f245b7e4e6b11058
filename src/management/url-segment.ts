/**
 * The source of a pattern for one segment of a path: what stands in a URL as it is. Not dots alone: clients take `.` and
 * `..` out of a path before they ask (RFC 3986 §5.2.4), so that nobody could ever name it.
 */
export const urlSegment = String.raw`(?!\.+(?:\/|$))[\w.~-]+`
