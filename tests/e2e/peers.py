"""How do the tests speak with the OpenID providers of tests/peers? As their users do, and over their stdin."""

import base64
import hashlib
import json
import secrets
import shutil
import ssl
import subprocess
import threading
import urllib.error
import urllib.parse
import urllib.request
from http.client import HTTPMessage
from http.cookiejar import CookieJar
from pathlib import Path
from typing import IO, Any, Literal, Self

from authority import Authority, Certificate

ROOT = Path(__file__).resolve().parent.parent.parent
NODE = ROOT / ".venv/bin/node"
BACK = "https://app.example.com/back"
SCOPE = "chat:write listing:42:read"
Algorithm = Literal["RS256", "ES256", "EdDSA"]


def install() -> None:
    """Installs the providers, or says what is missing."""
    bash = shutil.which("bash") or "/bin/bash"
    done = subprocess.run([bash, ROOT / "admin/peers.sh"], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"the providers cannot be installed:\n{done.stdout}{done.stderr}")


class Peer:
    """A program of tests/peers that takes orders."""

    def __init__(self, program: str, *arguments: object) -> None:
        command = [str(NODE), program, *map(str, arguments)]
        self._process = subprocess.Popen(
            command, cwd=ROOT / "tests/peers", stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._lock = threading.Lock()
        self.hello = self._read()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def order(self, name: str, **order: Any) -> Any:
        """Gives one order and returns the answer. Safe from any thread."""
        assert self._process.stdin is not None
        with self._lock:
            self._process.stdin.write(json.dumps({"do": name, **order}) + "\n")
            self._process.stdin.flush()
            answer = self._read()
        if "error" in answer:
            raise RuntimeError(answer["error"])
        return answer["answer"]

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("a provider ended; its words are above")
        answer = json.loads(line)
        assert isinstance(answer, dict)
        return answer


class Provider(Peer):
    """oidc-provider. ``issuer`` is its https address, ``port`` the same without TLS."""

    def __init__(self, authority: Authority, certificate: Certificate) -> None:
        super().__init__("provider.mjs", certificate.path, certificate.key_path)
        self.issuer: str = self.hello["issuer"]
        self.port: int = self.hello["port"]
        self.audience: str = self.hello["audience"]
        self.secret: str = self.hello["secret"]
        self._resources: str = self.hello["resources"]
        self._tls = ssl.create_default_context(cafile=str(authority.path))

    @property
    def discovery_url(self) -> str:
        return f"{self.issuer}/.well-known/openid-configuration"

    def counts(self) -> dict[str, int]:
        """Requests so far, by method and path such as ``GET /jwks``."""
        counts = self.order("counts")
        assert isinstance(counts, dict)
        return counts

    def log_in(self, user: str, kind: str = "jwt/RS256") -> str:
        """A user's access token, by the authorization code flow with PKCE.

        kind: ``jwt/RS256``, ``jwt/ES256``, ``jwt/EdDSA``, ``opaque``, or ``other``, which is for another audience.
        """
        verifier = secrets.token_urlsafe(48)
        challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).decode().rstrip("=")
        resource = f"{self._resources}/{kind}"
        query = {
            "client_id": "page",
            "response_type": "code",
            "redirect_uri": BACK,
            "scope": f"openid {SCOPE}",
            "resource": resource,
            "login_hint": user,
            "code_challenge": challenge,
            "code_challenge_method": "S256",
        }
        back = self._browse(f"{self.issuer}/auth?{urllib.parse.urlencode(query)}")
        answer = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(back).query))
        if "code" not in answer:
            raise RuntimeError(f"the login failed: {back}")
        return self._token(
            "page",
            grant_type="authorization_code",
            code=answer["code"],
            redirect_uri=BACK,
            code_verifier=verifier,
            resource=resource,
        )

    def machine_token(self, kind: str = "jwt/RS256") -> str:
        """A token of a client that speaks for itself."""
        resource = f"{self._resources}/{kind}"
        return self._token("machine", grant_type="client_credentials", resource=resource, scope=SCOPE)

    def revoke(self, token: str, client: str = "page") -> None:
        self._post("/token/revocation", client, token=token)

    def introspect(self, token: str, client: str = "live", accept: str = "application/json") -> tuple[str, bytes]:
        """Content type and body of the answer about a token."""
        return self._post("/token/introspection", client, accept, token=token)

    def published_keys(self) -> list[dict[str, Any]]:
        """The key set as it is published now."""
        with urllib.request.urlopen(f"{self.issuer}/jwks", context=self._tls) as response:
            keys = json.load(response)["keys"]
        assert isinstance(keys, list)
        return keys

    def _token(self, client: str, **form: str) -> str:
        token = json.loads(self._post("/token", client, **form)[1])["access_token"]
        assert isinstance(token, str)
        return token

    def _post(self, path: str, client: str, accept: str = "application/json", /, **form: str) -> tuple[str, bytes]:
        quoted = urllib.parse.quote_plus(self.secret)
        basic = base64.b64encode(f"{client}:{quoted}".encode()).decode()
        request = urllib.request.Request(
            self.issuer + path,
            urllib.parse.urlencode(form).encode(),
            {"Authorization": f"Basic {basic}", "Accept": accept},
        )
        with urllib.request.urlopen(request, context=self._tls) as response:
            return response.headers["Content-Type"], response.read()

    def _browse(self, url: str) -> str:
        """Follows redirects as a browser does, up to the address of the application."""
        opener = urllib.request.build_opener(
            urllib.request.HTTPSHandler(context=self._tls),
            urllib.request.HTTPCookieProcessor(CookieJar()),
            _StopAtApplication(),
        )
        try:
            with opener.open(url) as response:
                raise RuntimeError(f"the login ended at {response.url}")
        except _AtApplication as end:
            return end.url


class _AtApplication(Exception):
    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.url = url


class _StopAtApplication(urllib.request.HTTPRedirectHandler):
    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> urllib.request.Request | None:
        if newurl.startswith(BACK):
            raise _AtApplication(newurl)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


class Mock:
    """One oauth2-mock-server, with one key for each of its algorithms."""

    def __init__(self, peer: Peer, *algorithms: Algorithm) -> None:
        self._peer = peer
        started = peer.order("start", algorithms=algorithms)
        self.issuer: str = started["issuer"]
        self.port: int = started["port"]

    def token(self, algorithm: Algorithm, **claims: Any) -> str:
        """A token with these claims, beside iss, iat, exp and nbf."""
        token = self._peer.order("token", port=self.port, algorithm=algorithm, claims=claims)
        assert isinstance(token, str)
        return token

    def script(self, path: str, status: int | None, headers: dict[str, str] | None = None, body: str = "") -> None:
        """Answers requests for ``path`` so from now on; without a status, as the mock does by itself."""
        order = {"path": path, "headers": headers or {}, "body": body}
        self._peer.order("script", port=self.port, **order, **({} if status is None else {"status": status}))

    def counts(self) -> dict[str, int]:
        counts = self._peer.order("counts", port=self.port)
        assert isinstance(counts, dict)
        return counts
