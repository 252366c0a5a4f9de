"""Signed requests: what the exchange would verify, and that the key shows nowhere."""

import base64
import logging
from pathlib import Path

import httpx
import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

from kalshidb.exchange.client import ExchangeClient, ExchangeError
from kalshidb.exchange.signing import Signer, SigningError
from kalshidb.exchange.simulator import SimulatedExchange

KEY_ID = "0c3c4a1e-5f5a-4f43-9d3c-5d6f7a8b9c0d"


@pytest.fixture(scope="module")
def key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def pem(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey, password: bytes | None = None) -> bytes:
    hidden = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, hidden)


@pytest.fixture
def file(tmp_path: Path, key: rsa.RSAPrivateKey) -> Path:
    path = tmp_path / "key.pem"
    path.write_bytes(pem(key))
    return path


def verify(key: rsa.RSAPrivateKey, signature: str, signed: str) -> None:
    pss = padding.PSS(mgf=padding.MGF1(hashes.SHA256()), salt_length=32)
    key.public_key().verify(base64.b64decode(signature), signed.encode(), pss, hashes.SHA256())


def test_time_method_and_path_without_query_are_signed(file: Path, key: rsa.RSAPrivateKey) -> None:
    sent: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        sent.append(request)
        return httpx.Response(200, json={})

    signer = Signer(KEY_ID, file, clock=lambda: 1784371200.1239)
    url = "https://exchange.test/trade-api/v2"
    with ExchangeClient(url, auth=signer, transport=httpx.MockTransport(answer)) as client:
        client.get("/markets/KX%20A/orderbook", depth=5)
    (request,) = sent
    assert request.url.query == b"depth=5"
    headers = request.headers
    assert headers["KALSHI-ACCESS-KEY"] == KEY_ID
    assert headers["KALSHI-ACCESS-TIMESTAMP"] == "1784371200123"
    verify(key, headers["KALSHI-ACCESS-SIGNATURE"], "1784371200123GET/trade-api/v2/markets/KX%20A/orderbook")
    with pytest.raises(InvalidSignature):
        verify(key, headers["KALSHI-ACCESS-SIGNATURE"], "1784371200123GET/trade-api/v2/markets/KX%20A/orderbook?depth=5")


def test_nothing_of_the_key_shows(file: Path, key: rsa.RSAPrivateKey, caplog: pytest.LogCaptureFixture) -> None:
    signer = Signer(KEY_ID, file)
    with (
        caplog.at_level(logging.DEBUG),
        SimulatedExchange(markets=60) as exchange,
        ExchangeClient(exchange.base_url, auth=signer, limit=None, max_retries=1, chance=lambda: 0.0) as client,
    ):
        client.status()
        exchange.fail(500, "drop")
        with pytest.raises(ExchangeError) as caught:
            client.get("/no/such/path")
    secret = pem(key).decode().splitlines()[5]
    shown = f"{signer!r} {caught.value} {caught.value.__cause__} {caplog.text}"
    assert KEY_ID not in shown
    assert secret not in shown
    assert "SIGNATURE" not in shown.upper()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read"),
        (b"-----BEGIN PRIVATE KEY-----\nsecretsecret\n-----END PRIVATE KEY-----\n", "holds no private key in PEM form"),
        (b"", "holds no private key"),
        ("encrypted", "without a password"),
        ("elliptic", "another kind of key"),
    ],
)
def test_a_key_that_cannot_sign_is_named_by_its_file(
    tmp_path: Path, key: rsa.RSAPrivateKey, content: bytes | str | None, message: str
) -> None:
    path = tmp_path / "key.pem"
    if content is not None:
        made = {"encrypted": pem(key, b"x"), "elliptic": pem(ec.generate_private_key(ec.SECP256R1()))}
        path.write_bytes(made[content] if isinstance(content, str) else content)
    with pytest.raises(SigningError, match=message) as caught:
        Signer(KEY_ID, path)
    assert str(path) in str(caught.value)
    assert "secretsecret" not in str(caught.value)
    assert caught.value.__cause__ is None
