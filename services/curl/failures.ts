/** What went wrong on the network, in curl's numbers and words; the stack's own sentence follows in brackets. */
import { CurlError, EXIT } from './exit_codes.ts';

function codeOf(err: unknown): string {
  const code = (err as { code?: unknown } | undefined)?.code;
  // A DOMException (an aborted signal) has a number here.
  return typeof code === 'string' ? code : '';
}

function reason(err: unknown): string {
  const message = err instanceof Error ? err.message : '';
  return message === '' ? '' : ` (${message})`;
}

/** A request failed before its connection stood. */
export function connectFailure(err: unknown, host: string, port: number, tookMs: number): CurlError {
  if (err instanceof CurlError) return err;
  const code = codeOf(err);
  if (
    code === 'ENOTFOUND' ||
    code.startsWith('EAI_') ||
    code.startsWith('DNS_') ||
    code === 'ENODATA' ||
    code === 'ESERVFAIL'
  ) {
    return new CurlError(EXIT.COULDNT_RESOLVE_HOST, `Could not resolve host: ${host}${reason(err)}`, err);
  }
  if (code === 'ETIMEDOUT') {
    return new CurlError(
      EXIT.OPERATION_TIMEDOUT,
      `Failed to connect to ${host} port ${port} after ${tookMs} ms: Timeout was reached${reason(err)}`,
      err,
    );
  }
  return new CurlError(
    EXIT.COULDNT_CONNECT,
    `Failed to connect to ${host} port ${port} after ${tookMs} ms: Could not connect to server${reason(err)}`,
    err,
  );
}

/** A request failed on a connection that stood. `received` is set once the response head was there. */
export function responseFailure(
  err: unknown,
  received?: { expected: number; downloaded: number },
): CurlError {
  if (err instanceof CurlError) return err;
  const code = codeOf(err);
  if (code.startsWith('HPE_')) return parseFailure(err as Error & { code: string });
  const ended =
    err === undefined ||
    (err as Error).message === 'aborted' ||
    (err as Error).message === 'socket hang up' ||
    code === 'ERR_STREAM_PREMATURE_CLOSE';
  if (!ended) {
    const what = code === 'ETIMEDOUT' ? 'Connection timed out' : 'Connection reset by peer';
    return new CurlError(EXIT.RECV_ERROR, `Recv failure: ${what}${reason(err)}`, err);
  }
  if (!received) return new CurlError(EXIT.GOT_NOTHING, 'Empty reply from server', err);
  if (received.expected < 0)
    return new CurlError(EXIT.PARTIAL_FILE, 'transfer closed with outstanding read data remaining', err);
  return new CurlError(
    EXIT.PARTIAL_FILE,
    `end of response with ${received.expected - received.downloaded} bytes missing`,
    err,
  );
}

function parseFailure(err: Error & { code: string }): CurlError {
  if (err.code === 'HPE_INVALID_CONSTANT')
    return new CurlError(EXIT.UNSUPPORTED_PROTOCOL, 'Received HTTP/0.9 when not allowed', err);
  if (err.code === 'HPE_HEADER_OVERFLOW')
    return new CurlError(EXIT.RECV_ERROR, 'Too large response headers', err);
  if (err.code === 'HPE_INVALID_CHUNK_SIZE')
    return new CurlError(EXIT.RECV_ERROR, 'Malformed encoding found in chunked-encoding', err);
  return new CurlError(EXIT.WEIRD_SERVER_REPLY, `Weird server reply (${err.message})`, err);
}
