// This file answers: who signs with the algorithms of the tests' choice, and answers what the tests want? It is
// oauth2-mock-server, as many of it as the test asks for, each with keys of its own and answers that can be replaced.
import http from 'node:http';

import { OAuth2Issuer, OAuth2Service } from 'oauth2-mock-server';

import { Counts, listen, serve } from './control.mjs';

const mocks = new Map();

function require(port) {
  const mock = mocks.get(port);
  if (mock === undefined) throw new Error(`no mock on port ${port}`);
  return mock;
}

await serve(
  {},
  {
    // Starts a provider with one key for each algorithm.
    async start({ algorithms }) {
      const issuer = new OAuth2Issuer(false);
      const kids = {};
      for (const algorithm of algorithms) kids[algorithm] = (await issuer.keys.generate(algorithm)).kid;
      const service = new OAuth2Service(issuer);
      const mock = { issuer, kids, counts: new Counts(), scripts: new Map() };
      const server = http.createServer((request, response) => {
        mock.counts.add(request);
        const { pathname } = new URL(request.url, 'http://localhost');
        const scripted = mock.scripts.get(pathname);
        if (scripted === undefined) {
          service.requestHandler(request, response);
        } else {
          request.resume();
          response.writeHead(scripted.status, scripted.headers).end(scripted.body);
        }
      });
      const port = await listen(server);
      issuer.url = `http://localhost:${port}`;
      mocks.set(port, mock);
      return { port, issuer: issuer.url };
    },
    // Signs these claims, beside iss, iat, exp and nbf.
    token({ port, algorithm, claims }) {
      const { issuer, kids } = require(port);
      return issuer.buildToken({ kid: kids[algorithm], scopesOrTransform: (header, payload) => Object.assign(payload, claims) });
    },
    // Answers this path so from now on; without a status, as the mock does.
    script({ port, path, status, headers, body }) {
      const { scripts } = require(port);
      if (status === undefined) scripts.delete(path);
      else scripts.set(path, { status, headers: headers ?? {}, body: body ?? '' });
    },
    counts: ({ port }) => require(port).counts.all,
  },
);
