/** Whether a stream gets colours: a terminal does, unless NO_COLOR or FORCE_COLOR says otherwise. */
export function hasColors(stream: { readonly isTTY?: boolean }): boolean {
  const { FORCE_COLOR, NO_COLOR } = process.env;
  return FORCE_COLOR !== undefined || (stream.isTTY === true && NO_COLOR === undefined);
}
