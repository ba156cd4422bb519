import { createHash } from 'node:crypto';
import { once } from 'node:events';
import http from 'node:http';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { startWeb, type Web } from './server.ts';
import { directoryPage, fileHash } from './site.ts';

let web: Web;
const get = (path: string, init?: RequestInit) => fetch(`http://127.0.0.1:${web.port}${path}`, init);

beforeAll(async () => {
  web = await startWeb();
});
afterAll(() => web.close());

describe('startWeb()', () => {
  it('shows a directory page for every path that ends in a slash', async () => {
    const response = await get('/debian/');
    expect(response.headers.get('content-length')).toBe(String(directoryPage('/debian/').length));
    expect(await response.text()).toBe(directoryPage('/debian/'));
  });

  it('serves files of any size whose hash is known', async () => {
    for (const size of [0, 1, 65_536, 1_000_001]) {
      const bytes = Buffer.from(await (await get(`/bytes/${size}`)).arrayBuffer());
      expect([bytes.length, createHash('sha256').update(bytes).digest('hex')]).toEqual([
        size,
        fileHash(size),
      ]);
    }
  });

  it('answers whatever target comes, and goes on', async () => {
    const status = async (target: string) => {
      const request = http.request({ host: '127.0.0.1', port: web.port, path: target }).end();
      const [response] = (await once(request, 'response')) as [http.IncomingMessage];
      response.resume();
      return response.statusCode;
    };
    const seen = [];
    for (const target of ['//', '//:x/', '*', 'http://:x', 'http://web/nothing'])
      seen.push(await status(target));
    expect(seen).toEqual([200, 200, 400, 400, 404]);
  });

  it('answers HEAD without a body, 404 and 405', async () => {
    const head = await get('/bytes/1000', { method: 'HEAD' });
    expect([head.status, head.headers.get('content-length'), await head.text()]).toEqual([200, '1000', '']);
    expect((await get('/nothing')).status).toBe(404);
    expect((await get('/', { method: 'DELETE' })).status).toBe(405);
  });
});
