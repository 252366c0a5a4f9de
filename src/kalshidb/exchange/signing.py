"""Signing requests with an API key, for the endpoints that want one and for the limits that come with it.

Needs the extra `keyed` (cryptography). The key never appears in a log, an error or a repr.
"""

import base64
import time
from collections.abc import Callable, Generator
from pathlib import Path

import httpx

try:
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import padding
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key
except ImportError as error:
    raise ImportError("signing needs cryptography: pip install 'kalshidb[keyed]'") from error


class SigningError(ValueError):
    """A key that cannot sign; the message names the file, never what is in it."""


class Signer(httpx.Auth):
    """Signs each request: RSA-PSS with SHA-256 over time, method and path without query.

    Args:
        key_id: the id of the API key, a UUID.
        private_key_file: its private key, as PEM without a password.
        clock: seconds since 1970, for tests.

    Raises:
        SigningError: the file cannot be read, or holds no RSA key.
    """

    def __init__(self, key_id: str, private_key_file: Path, *, clock: Callable[[], float] = time.time) -> None:
        """Read the key."""
        self._key_id = key_id
        self._key = _read_key(private_key_file)
        self._clock = clock

    def __repr__(self) -> str:
        """Show nothing of the key."""
        return "Signer()"

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Sign a request on its way out."""
        request.headers.update(self.headers(request.method, request.url.raw_path.decode().partition("?")[0]))
        yield request

    def headers(self, method: str, path: str) -> dict[str, str]:
        """Return the headers that sign a request; also those of the websocket's handshake (GET and its path)."""
        moment = str(int(self._clock() * 1000))
        pss = padding.PSS(mgf=padding.MGF1(hashes.SHA256()), salt_length=padding.PSS.DIGEST_LENGTH)
        signature = self._key.sign(f"{moment}{method.upper()}{path}".encode(), pss, hashes.SHA256())
        return {
            "KALSHI-ACCESS-KEY": self._key_id,
            "KALSHI-ACCESS-TIMESTAMP": moment,
            "KALSHI-ACCESS-SIGNATURE": base64.b64encode(signature).decode(),
        }


def _read_key(file: Path) -> RSAPrivateKey:
    try:
        key = load_pem_private_key(file.read_bytes(), password=None)
    except OSError as error:
        raise SigningError(f"the private key {file} cannot be read: {error.strerror}") from None
    except (ValueError, TypeError):
        raise SigningError(f"{file} holds no private key in PEM form without a password") from None
    if not isinstance(key, RSAPrivateKey):
        raise SigningError(f"{file} holds another kind of key; the exchange's are RSA")
    return key
