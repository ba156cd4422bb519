/** curl's exit codes, as far as an HTTP transfer can end with them, and the error that carries one. */

export const EXIT = {
  OK: 0,
  UNSUPPORTED_PROTOCOL: 1,
  FAILED_INIT: 2,
  URL_MALFORMAT: 3,
  COULDNT_RESOLVE_HOST: 6,
  COULDNT_CONNECT: 7,
  WEIRD_SERVER_REPLY: 8,
  PARTIAL_FILE: 18,
  HTTP_RETURNED_ERROR: 22,
  WRITE_ERROR: 23,
  OUT_OF_MEMORY: 27,
  OPERATION_TIMEDOUT: 28,
  BAD_FUNCTION_ARGUMENT: 43,
  TOO_MANY_REDIRECTS: 47,
  GOT_NOTHING: 52,
  SEND_ERROR: 55,
  RECV_ERROR: 56,
} as const;

/** A transfer, or the command line, failed. `message` is what stands behind `curl: (<exit>) `. */
export class CurlError extends Error {
  override readonly name = 'CurlError';
  readonly exit: number;

  constructor(exit: number, message: string, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause });
    this.exit = exit;
  }
}
