// This file answers: what is the real OpenID provider of the tests? It is oidc-provider, on two ports of loopback:
// one with TLS, which is the issuer, and one without, for proxies that must see and spoil the bytes.
//
//   node provider.mjs CERTIFICATE KEY
//
// Users log in by their `login_hint` alone, and consent to everything. The resource that is asked for decides what an
// access token is: .../jwt/RS256, .../jwt/ES256, .../jwt/EdDSA are for our audience, .../opaque as well, .../other is
// signed for somebody else.
//
// oidc-provider has no way to change its keys while it runs. So each step of a rotation makes a new instance with the
// same issuer and the same store, and the servers hand their requests to the newest. Of the keys that fit, the
// instance signs with the first.
import { generateKeyPairSync, randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import http from 'node:http';
import https from 'node:https';

import Provider from 'oidc-provider';
import { createMemoryAdapter } from 'oidc-provider/lib/adapters/memory_adapter.js';

import { Counts, listen, serve } from './control.mjs';

const AUDIENCE = 'wss://live.example.com';
const RESOURCES = 'https://live.example.com';
const SCOPE = 'chat:write listing:42:read';
// Of characters that basic authentication must encode (RFC 6749 section 2.3.1).
const SECRET = 'secret:of+the%20tests&of=nobody/else';

const RESOURCE_SERVERS = {
  [`${RESOURCES}/jwt/RS256`]: signed('RS256'),
  [`${RESOURCES}/jwt/ES256`]: signed('ES256'),
  [`${RESOURCES}/jwt/EdDSA`]: signed('EdDSA'),
  [`${RESOURCES}/other`]: { ...signed('RS256'), audience: 'wss://elsewhere.example.com' },
  [`${RESOURCES}/opaque`]: { scope: SCOPE, audience: AUDIENCE, accessTokenTTL: 3600, accessTokenFormat: 'opaque' },
};

function signed(alg) {
  return { scope: SCOPE, audience: AUDIENCE, accessTokenTTL: 3600, accessTokenFormat: 'jwt', jwt: { sign: { alg } } };
}

const CLIENTS = [
  // The page a user logs in at.
  { client_id: 'page', grant_types: ['authorization_code'], redirect_uris: ['https://app.example.com/back'] },
  // A machine that speaks for itself.
  { client_id: 'machine', grant_types: ['client_credentials'], redirect_uris: [], response_types: [] },
  // The WebSocket server, which asks about tokens.
  { client_id: 'live', grant_types: [], redirect_uris: [], response_types: [] },
  {
    client_id: 'live-post',
    token_endpoint_auth_method: 'client_secret_post',
    grant_types: [],
    redirect_uris: [],
    response_types: [],
  },
  {
    client_id: 'live-signed',
    introspection_signed_response_alg: 'ES256',
    grant_types: [],
    redirect_uris: [],
    response_types: [],
  },
].map((client) => ({ client_secret: SECRET, ...client }));

function makeKeys() {
  const pairs = {
    RS256: generateKeyPairSync('rsa', { modulusLength: 2048 }),
    ES256: generateKeyPairSync('ec', { namedCurve: 'P-256' }),
    EdDSA: generateKeyPairSync('ed25519'),
  };
  return Object.entries(pairs).map(([alg, pair]) => ({
    ...pair.privateKey.export({ format: 'jwk' }),
    kid: randomUUID(),
    alg,
    use: 'sig',
  }));
}

const adapter = createMemoryAdapter(15);
const cookieKeys = [randomUUID()];

function makeProvider(issuer, keys) {
  return new Provider(issuer, {
    adapter,
    clients: CLIENTS,
    cookies: { keys: cookieKeys },
    jwks: { keys },
    enabledJWA: { introspectionSigningAlgValues: ['RS256', 'ES256', 'EdDSA'] },
    features: {
      clientCredentials: { enabled: true },
      devInteractions: { enabled: false },
      introspection: { enabled: true },
      jwtIntrospection: { enabled: true },
      revocation: { enabled: true },
      resourceIndicators: {
        enabled: true,
        getResourceServerInfo(ctx, resource) {
          if (!Object.hasOwn(RESOURCE_SERVERS, resource)) throw new Error(`no such resource: ${resource}`);
          return RESOURCE_SERVERS[resource];
        },
      },
    },
    // A client that speaks for itself has no subject of its own in an introspection; signed tokens name the client.
    extraTokenClaims: (ctx, token) => (token.kind === 'ClientCredentials' ? { sub: token.clientId } : undefined),
    findAccount: (ctx, id) => ({ accountId: id, claims: () => ({ sub: id }) }),
    interactions: { url: (ctx, interaction) => `/interaction/${interaction.uid}` },
    async loadExistingGrant(ctx) {
      const { client, session, params, provider } = ctx.oidc;
      const grant = new provider.Grant({ clientId: client.clientId, accountId: session.accountId });
      grant.addOIDCScope('openid');
      if (params.resource) grant.addResourceScope(params.resource, params.scope);
      await grant.save();
      return grant;
    },
    ttl: { AccessToken: 3600, ClientCredentials: 3600, IdToken: 3600, Session: 3600, Interaction: 600, Grant: 3600 },
  });
}

const [certificate, key] = process.argv.slice(2).map((path) => readFileSync(path));
const counts = new Counts();
let provider;
let answer;

async function handle(request, response) {
  counts.add(request);
  if (!request.url.startsWith('/interaction/')) {
    answer(request, response);
    return;
  }
  try {
    const { params } = await provider.interactionDetails(request, response);
    await provider.interactionFinished(request, response, { login: { accountId: params.login_hint } });
  } catch (error) {
    response.writeHead(400).end(`${error.message}\n`);
  }
}

const withTls = https.createServer({ cert: certificate, key }, handle);
const plain = http.createServer(handle);
const [tlsPort, port] = [await listen(withTls), await listen(plain)];
const issuer = `https://localhost:${tlsPort}`;

function useKeys(keys) {
  provider = makeProvider(issuer, keys);
  answer = provider.callback();
}

let current = makeKeys();
let next = [];
useKeys(current);

await serve(
  { issuer, port, audience: AUDIENCE, resources: RESOURCES, secret: SECRET },
  {
    // The three steps of a rotation.
    publish() {
      next = makeKeys();
      useKeys([...current, ...next]);
    },
    sign() {
      useKeys([...next, ...current]);
    },
    withdraw() {
      current = next;
      useKeys(current);
    },
    counts: () => counts.all,
  },
);
