"""Are the tokens of real providers taken, and nobody else's, with keys that are found by asking for them?"""

import json
from collections.abc import Callable
from typing import Any

import pytest

import wsauth
from authority import Authority, Certificate
from conftest import CHAT, PEER, admit, config, discovered, fetched, headers, opaque, refusal, run, site, until
from peers import Algorithm, Mock, Provider
from proxy import Fault, Proxy

ALGORITHMS: tuple[Algorithm, ...] = ("RS256", "ES256", "EdDSA")
AUDIENCE = "wss://live.example.com"


def mocked(mock: Mock, algorithms: list[str], **keys: Any) -> dict[str, Any]:
    where = keys or {"discovery_url": f"{mock.issuer}/.well-known/openid-configuration"}
    return {"issuer": mock.issuer, "audience": [AUDIENCE], "algorithms": algorithms, "keys": where}


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_user_of_the_provider_is_let_in(provider: Provider, authority: Authority, algorithm: Algorithm) -> None:
    engine = wsauth.Engine(config(discovered(provider, authority)))
    token = provider.log_in("ann", f"jwt/{algorithm}")

    async def main() -> None:
        async with site(engine) as here, here.client(token, "ann") as socket:
            await socket.send(CHAT)
            assert await socket.recv() == CHAT
            await socket.send('{"type":"listing.subscribe","listing_id":"43"}')
            assert json.loads(await socket.recv())["type"] == "error"

    run(main)


def test_a_machine_of_the_provider_is_let_in(provider: Provider, authority: Authority) -> None:
    engine = wsauth.Engine(config(discovered(provider, authority)))

    async def main() -> None:
        async with site(engine) as here, here.client(provider.machine_token(), "machine"):
            pass

    run(main)


def test_the_documents_are_fetched_once_for_many(provider: Provider, authority: Authority) -> None:
    engine = wsauth.Engine(config(discovered(provider, authority)))
    token = provider.log_in("ann")

    async def main() -> None:
        async with site(engine) as here:
            for _ in range(20):
                assert await here.status(token) == 101

    run(main)
    assert fetched(engine) == 2, "one discovery document, one key set"


def test_a_token_for_somebody_else_is_refused(provider: Provider, authority: Authority) -> None:
    engine = wsauth.Engine(config(discovered(provider, authority)))
    token = provider.log_in("ann", "other")

    async def main() -> None:
        assert (await refusal(engine, token)).reason == "audience_mismatch"
        async with site(engine) as here:
            assert await here.status(token) == 401

    run(main)


def test_a_token_with_one_letter_changed_is_refused(provider: Provider, authority: Authority) -> None:
    engine = wsauth.Engine(config(discovered(provider, authority)))
    header, payload, signature = provider.log_in("ann").split(".")
    changed = f"{header}.{payload}.{'B' if signature[0] == 'A' else 'A'}{signature[1:]}"

    async def main() -> None:
        assert (await refusal(engine, changed)).reason == "signature_invalid"

    run(main)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_each_algorithm_of_the_mock_is_taken_alone(mocks: Callable[..., Mock], algorithm: Algorithm) -> None:
    mock = mocks(algorithm)
    engine = wsauth.Engine(config(mocked(mock, [algorithm])))
    token = mock.token(algorithm, sub="ann", aud=AUDIENCE, scope="chat:write")

    async def main() -> None:
        async with site(engine) as here, here.client(token, "ann") as socket:
            await socket.send(CHAT)
            assert await socket.recv() == CHAT

    run(main)


def test_one_key_set_serves_three_algorithms(mocks: Callable[..., Mock]) -> None:
    mock = mocks(*ALGORITHMS)
    engine = wsauth.Engine(config(mocked(mock, list(ALGORITHMS), jwks_url=f"{mock.issuer}/jwks")))

    async def main() -> None:
        async with site(engine) as here:
            for algorithm in ALGORITHMS:
                async with here.client(mock.token(algorithm, sub=algorithm, aud=AUDIENCE), algorithm):
                    pass

    run(main)
    assert mock.counts() == {"GET /jwks": 1}


def test_an_algorithm_that_is_not_configured_is_refused(mocks: Callable[..., Mock]) -> None:
    mock = mocks(*ALGORITHMS)
    engine = wsauth.Engine(config(mocked(mock, ["RS256"])))

    async def main() -> None:
        for algorithm in ("ES256", "EdDSA"):
            token = mock.token(algorithm, sub="ann", aud=AUDIENCE)
            assert (await refusal(engine, token)).reason == "token_algorithm"

    run(main)


def test_a_discovery_document_of_somebody_else_vouches_for_nobody(mocks: Callable[..., Mock]) -> None:
    mock, other = mocks("RS256"), mocks("RS256")
    issuer = mocked(mock, ["RS256"], discovery_url=f"{other.issuer}/.well-known/openid-configuration")
    engine = wsauth.Engine(config(issuer))
    tokens = [peer.token("RS256", sub="ann", aud=AUDIENCE, iss=mock.issuer) for peer in (mock, other)]

    async def main() -> None:
        for token in tokens:
            refused = await refusal(engine, token)
            assert (refused.status, refused.reason) == (503, "source_unavailable")

    run(main)
    assert "GET /jwks" not in other.counts()


def test_no_certificate_but_a_good_one_is_trusted(
    provider: Provider, authority: Authority, tmp_path_factory: pytest.TempPathFactory
) -> None:
    stranger = Authority(tmp_path_factory.mktemp("stranger"), "stranger-ca")
    fronts: dict[str, Certificate | None] = {
        "good": authority.sign("good"),
        "expired": authority.sign("expired", expired=True),
        "of another host": authority.sign("elsewhere", "elsewhere.example.com"),
        "of an unknown authority": stranger.sign("stranger"),
        "none: plain HTTP": None,
    }
    token = provider.log_in("ann")

    async def main() -> None:
        for name, certificate in fronts.items():
            context = None if certificate is None else certificate.server_context()
            with Proxy(provider.port, context) as front:
                issuer = discovered(provider, authority)
                issuer["keys"] = {"jwks_url": f"https://localhost:{front.port}/jwks"}
                engine = wsauth.Engine(config(issuer))
                if name == "good":
                    (await admit(engine, token)).closed()
                    assert front.requests == 1
                else:
                    refused = await refusal(engine, token)
                    assert (refused.status, refused.reason) == (503, "source_unavailable"), name
                    assert front.requests == 0, name

    run(main)


@pytest.mark.parametrize("kind", ["opaque", "jwt/RS256"])
def test_waiting_in_a_thread_that_runs_a_loop_is_misuse(provider: Provider, authority: Authority, kind: str) -> None:
    token = provider.log_in("ann", kind)
    with Proxy(provider.port, authority.sign("slow").server_context()) as front:
        # Nothing is there before it is asked for: whoever comes must wait.
        front.fault = Fault(silent=True)
        issuer = opaque(provider, authority, url=f"https://localhost:{front.port}/token/introspection")
        issuer["keys"] = {"jwks_url": f"https://localhost:{front.port}/jwks"}
        engine = wsauth.Engine(config(issuer, lookups={"timeout": "500ms", "breaker_failures": 1_000}))

        async def main() -> None:
            with pytest.raises(wsauth.MisuseError) as misuse:
                engine.handshake("/live", headers(token), PEER)
            assert misuse.value.reason == "misuse_blocking"
            assert engine.connections == 0

        def accepted() -> bool:
            try:
                connection = engine.handshake("/live", headers(token), PEER)
            except wsauth.Refused as refused:
                # What was asked of the silent source is not over yet.
                assert refused.status == 503
                return False
            with connection:
                assert connection.identity is not None
                assert connection.identity.subject == "ann"
            return True

        run(main)
        front.fault = Fault()
        run(lambda: until(accepted))
