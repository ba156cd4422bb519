/** The page of a directory without index.html. */

export interface ListedName {
  /** A directory's ends in '/'. */
  readonly name: string;
  /** Bytes; undefined for directories. */
  readonly size: number | undefined;
}

/** HTML; `path` is the decoded path of the directory with slashes at both ends. */
export function listingPage(path: string, names: readonly ListedName[]): string {
  const title = `Index of ${escapeHtml(path)}`;
  const up = path === '/' ? [] : ['<tr><td><a href="../">../</a></td><td></td></tr>'];
  const rows = names.map(({ name, size }) => {
    const href = name
      .split('/')
      .map((part) => encodeURIComponent(part))
      .join('/');
    // "./" in front: a name with a colon is no scheme.
    return `<tr><td><a href="./${href}">${escapeHtml(name)}</a></td><td>${size ?? ''}</td></tr>`;
  });
  return [
    '<!DOCTYPE html>',
    `<html><head><meta charset="utf-8"><title>${title}</title></head><body>`,
    `<h1>${title}</h1>`,
    '<table>',
    ...up,
    ...rows,
    '</table>',
    '</body></html>',
    '',
  ].join('\n');
}

export function escapeHtml(text: string): string {
  return text
    .replaceAll('&', '&amp;')
    .replaceAll('<', '&lt;')
    .replaceAll('>', '&gt;')
    .replaceAll('"', '&quot;');
}
