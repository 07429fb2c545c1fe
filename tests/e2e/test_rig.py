"""Do the providers and the proxy do what the other tests rely on? Asked without the engine."""

import contextlib
import json
import socket
import ssl
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import jwt
import pytest

from authority import Authority
from peers import Algorithm, Mock, Provider
from proxy import Fault, Proxy

ALGORITHMS: tuple[Algorithm, ...] = ("RS256", "ES256", "EdDSA")
REQUEST = b"GET /jwks HTTP/1.1\r\nHost: localhost\r\nConnection: keep-alive\r\n\r\n"


def verified(token: str, keys: list[dict[str, Any]], **options: Any) -> dict[str, Any]:
    """The claims of a token, by an implementation of JWT that is not ours."""
    kid = jwt.get_unverified_header(token)["kid"]
    [key] = [key for key in keys if key["kid"] == kid]
    claims = jwt.decode(token, jwt.PyJWK(key), algorithms=[key["alg"]], **options)
    assert isinstance(claims, dict)
    return claims


def through(proxy: Proxy) -> bytes:
    """What a client reads of one answer."""
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=30) as client:
        client.sendall(REQUEST)
        answer = bytearray()
        with contextlib.suppress(ConnectionError):
            while chunk := client.recv(65536):
                answer += chunk
    return bytes(answer)


@pytest.fixture(scope="module")
def mock(mocks: Callable[..., Mock]) -> Mock:
    return mocks(*ALGORITHMS)


@pytest.fixture
def proxy(mock: Mock) -> Iterator[Proxy]:
    with Proxy(mock.port) as started:
        yield started


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_the_provider_signs_users_tokens_with_each_algorithm(provider: Provider, algorithm: Algorithm) -> None:
    token = provider.log_in("ann", f"jwt/{algorithm}")
    assert jwt.get_unverified_header(token)["alg"] == algorithm
    claims = verified(token, provider.published_keys(), audience=provider.audience, issuer=provider.issuer)
    assert (claims["sub"], claims["scope"]) == ("ann", "chat:write listing:42:read")


def test_a_machine_has_tokens_as_well(provider: Provider) -> None:
    claims = verified(provider.machine_token(), provider.published_keys(), audience=provider.audience)
    assert claims["sub"] == "machine"
    body = json.loads(provider.introspect(provider.machine_token("opaque"))[1])
    assert (body["active"], body["sub"]) == (True, "machine")


@pytest.mark.parametrize("client", ["live", "live-signed"])
def test_an_opaque_token_is_active_until_it_is_revoked(provider: Provider, client: str) -> None:
    token = provider.log_in("ann", "opaque")
    assert token.count(".") == 0
    body = json.loads(provider.introspect(token, client)[1])
    assert (body["active"], body["sub"], body["aud"]) == (True, "ann", provider.audience)
    provider.revoke(token)
    assert json.loads(provider.introspect(token, client)[1]) == {"active": False}


def test_a_client_may_have_signed_answers(provider: Provider) -> None:
    token = provider.log_in("ann", "opaque")
    signed = "application/token-introspection+jwt"
    kind, body = provider.introspect(token, "live-signed", signed)
    assert kind.startswith(signed)
    assert jwt.get_unverified_header(body.decode())["typ"] == "token-introspection+jwt"
    keys = provider.published_keys()
    claims = verified(body.decode(), keys, issuer=provider.issuer, options={"verify_aud": False})
    assert claims["token_introspection"]["active"] is True
    provider.revoke(token)
    body = provider.introspect(token, "live-signed", signed)[1]
    claims = verified(body.decode(), keys, options={"verify_aud": False})
    assert claims["token_introspection"] == {"active": False}


def test_a_rotation_has_three_steps_and_loses_no_token(provider: Provider) -> None:
    def kid() -> Any:
        return jwt.get_unverified_header(provider.machine_token())["kid"]

    opaque = provider.log_in("ann", "opaque")
    old, first = provider.published_keys(), kid()
    provider.order("publish")
    both = provider.published_keys()
    assert (len(both), kid()) == (2 * len(old), first)
    assert [key["kid"] for key in old] == [key["kid"] for key in both[: len(old)]]
    provider.order("sign")
    assert kid() != first
    provider.order("withdraw")
    assert not {key["kid"] for key in provider.published_keys()} & {key["kid"] for key in old}
    assert json.loads(provider.introspect(opaque)[1])["active"] is True


def test_requests_are_counted(provider: Provider) -> None:
    before = provider.counts().get("GET /jwks", 0)
    provider.published_keys()
    assert provider.counts()["GET /jwks"] == before + 1


def test_only_who_trusts_the_authority_reaches_the_provider(provider: Provider) -> None:
    with pytest.raises(urllib.error.URLError, match="CERTIFICATE_VERIFY_FAILED"):
        urllib.request.urlopen(provider.discovery_url)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_the_mock_signs_with_each_algorithm(mock: Mock, algorithm: Algorithm) -> None:
    with urllib.request.urlopen(f"http://127.0.0.1:{mock.port}/jwks") as response:
        keys = json.load(response)["keys"]
    claims = verified(mock.token(algorithm, sub="ann"), keys, issuer=mock.issuer)
    assert claims["sub"] == "ann"


def test_the_mock_answers_what_it_is_told_to(mock: Mock) -> None:
    url = f"http://127.0.0.1:{mock.port}/userinfo"
    mock.script("/userinfo", 503, {"Retry-After": "7"}, "later")
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(url)
    assert (refused.value.code, refused.value.headers["Retry-After"], refused.value.read()) == (503, "7", b"later")
    mock.script("/userinfo", None)
    with urllib.request.urlopen(url) as response:
        assert json.load(response) == {"sub": "johndoe"}


def test_the_proxy_passes_everything_on_and_counts(proxy: Proxy) -> None:
    answer = through(proxy)
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert len(json.loads(answer.split(b"\r\n\r\n")[1])["keys"]) == len(ALGORITHMS)
    assert (proxy.requests, proxy.last_response) == (1, answer)


def test_the_proxy_cuts_and_garbles_where_it_says(proxy: Proxy) -> None:
    whole = through(proxy)
    for position in (0, 1, len(whole) // 2, len(whole) - 1):
        proxy.fault = Fault(cut_after=position)
        assert len(through(proxy)) == position
    body = len(whole.split(b"\r\n\r\n")[1])
    for position in (0, body - 1):
        proxy.fault = Fault(garble_body_at=position)
        garbled = through(proxy)[-body:]
        differ = [at for at, (left, right) in enumerate(zip(garbled, whole[-body:], strict=True)) if left != right]
        assert differ == [position]


def test_the_proxy_is_silent_slow_and_down(proxy: Proxy) -> None:
    proxy.fault = Fault(silent=True)
    with socket.create_connection(("127.0.0.1", proxy.port)) as client:
        client.sendall(REQUEST)
        proxy.wait_for_requests(1)
        client.settimeout(0.2)
        with pytest.raises(TimeoutError):
            client.recv(1)
    proxy.fault = Fault(delay=0.01, throttle=100_000)
    assert through(proxy) == proxy.last_response
    proxy.down()
    with pytest.raises(ConnectionRefusedError):
        through(proxy)
    proxy.up()
    proxy.fault = Fault()
    assert through(proxy).startswith(b"HTTP/1.1 200 OK\r\n")


def test_the_proxy_ends_tls(mock: Mock, authority: Authority) -> None:
    trusting = ssl.create_default_context(cafile=str(authority.path))
    for name, certificate in {
        "front": authority.sign("front"),
        "late": authority.sign("late", expired=True),
        "other": authority.sign("other", "elsewhere.example.com"),
    }.items():
        with Proxy(mock.port, certificate.server_context()) as front:
            url = f"https://localhost:{front.port}/jwks"
            if name == "front":
                with urllib.request.urlopen(url, context=trusting) as response:
                    assert response.status == 200
            else:
                with pytest.raises(urllib.error.URLError, match=r"expired|mismatch"):
                    urllib.request.urlopen(url, context=trusting)
