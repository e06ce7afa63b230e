"""What programs need to find a simulator in Vonage's place: names, secrets, hosts, and whose certificates to trust.

Vonage's Python SDK speaks https alone, so the simulator has a certificate of an authority of its own. Programs that
are started with the environment trust that one too; nothing else on the machine does.
"""

from __future__ import annotations

import shlex
import socket
from collections.abc import Mapping
from pathlib import Path

import certifi
import msgspec
import trustme

from landed.errors import SurroundingsError
from landed.files import PRIVATE, PUBLIC, put
from landed.simulator.account import NUMBER, Account
from landed.simulator.credentials import application_token
from landed.vonage.keys import key_pair, public_key_of

# Under these names Vonage's APIs are called, by curl as the tutorials show it and by SDKs with their usual hosts.
HOSTS = ("api.nexmo.com", "rest.nexmo.com", "api.vonage.com", "api-eu.vonage.com", "api-us.vonage.com")
LOCAL_NAMES = ("localhost", "127.0.0.1", "::1")
TOKEN_SECONDS = 24 * 3_600
CARD = "447700900001"


class Keys(msgspec.Struct, frozen=True, kw_only=True):
    """The files of a simulator: its authority's certificate and key, all roots with it, and the application's key."""

    directory: Path

    @property
    def authority(self) -> Path:
        """The certificate of the authority."""
        return self.directory / "ca.pem"

    @property
    def bundle(self) -> Path:
        """The usual roots, and the authority."""
        return self.directory / "bundle.pem"

    @property
    def private_key(self) -> Path:
        """The application's key; Vonage's SDK knows a path by its ending."""
        return self.directory / "private.key"

    @property
    def _authority_key(self) -> Path:
        return self.directory / "ca.key"

    @classmethod
    def kept_in(cls, directory: Path) -> Keys:
        """Those of a directory, which are made where they are not there, so that each start has the same."""
        keys = cls(directory=directory)
        try:
            directory.mkdir(parents=True, exist_ok=True)
            if not (keys.authority.exists() and keys._authority_key.exists()):
                made = trustme.CA(organization_name="landed simulate", organization_unit_name="for tests alone")
                put(keys._authority_key, made.private_key_pem.bytes(), PRIVATE)
                put(keys.authority, made.cert_pem.bytes(), PUBLIC)
            if not keys.private_key.exists():
                put(keys.private_key, key_pair()[0].encode(), PRIVATE)
            put(keys.bundle, Path(certifi.where()).read_bytes() + keys.authority.read_bytes(), PUBLIC)
        except OSError as error:
            raise SurroundingsError(f"The keys of the simulator cannot be kept in {directory}: {error}.") from error
        return keys

    def public_key(self) -> str:
        """The application's public key, as PEM."""
        return public_key_of(self.private_key.read_text())

    def certificate(self, host: str) -> trustme.LeafCert:
        """A certificate for the address listened on, this machine, and Vonage's names, for who trusts the authority."""
        authority = trustme.CA.from_pem(self.authority.read_bytes(), self._authority_key.read_bytes())
        return authority.issue_cert(*dict.fromkeys((*LOCAL_NAMES, host, socket.gethostname(), *HOSTS)))


def environment_of(account: Account, keys: Keys, url: str, tls_address: str) -> dict[str, str]:
    """The variables by which programs in Python and Node, and curl, find the simulator."""
    application = account.application
    return {
        "VONAGE_API_KEY": account.api_key,
        "VONAGE_API_SECRET": account.api_secret,
        "VONAGE_APPLICATION_ID": application.id,
        "VONAGE_PRIVATE_KEY": str(keys.private_key),
        "VONAGE_SIGNATURE_SECRET": account.signature_secret,
        "VONAGE_SIGNATURE_METHOD": account.settings.signature_method or "md5hash",
        "VONAGE_API_HOST": tls_address,
        "VONAGE_REST_HOST": tls_address,
        "VONAGE_API_URL": url,
        "VONAGE_REST_URL": url,
        "REQUESTS_CA_BUNDLE": str(keys.bundle),
        "SSL_CERT_FILE": str(keys.bundle),
        "NODE_EXTRA_CA_CERTS": str(keys.authority),
        "CURL_HOME": str(keys.directory),
        "JWT": application_token(application.id, keys.private_key.read_text(), seconds=TOKEN_SECONDS),
        "FROM_NUMBER": NUMBER,
        "TO_NUMBER": CARD,
    }


def write_curl_settings(keys: Keys, tls_address: str) -> None:
    """Let curl, started with CURL_HOME, find the simulator under Vonage's names."""
    lines = [f'connect-to = "{host}:443:{tls_address}"' for host in HOSTS]
    put(keys.directory / ".curlrc", "\n".join([*lines, f'cacert = "{keys.bundle}"', ""]).encode(), PUBLIC)


def write_environment(file: Path, environment: Mapping[str, str]) -> None:
    """Put a file in place whose lines a shell can evaluate; whoever reads it has the whole of it."""
    lines = [f"export {name}={shlex.quote(value)}\n" for name, value in environment.items()]
    try:
        put(file, "".join(lines).encode(), PRIVATE)
    except OSError as error:
        raise SurroundingsError(f"The environment cannot be written to {file}: {error.strerror}.") from error
