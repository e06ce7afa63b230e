"""Who asks: the three ways to prove it to Vonage.

An application's JWT (RS256), HTTP Basic with key and secret, or, for the SMS API, key and secret or a signature among
the parameters. https://developer.vonage.com/en/getting-started/concepts/authentication
"""

from __future__ import annotations

import base64
import hmac
import time
from collections.abc import Mapping

import jwt

from landed.errors import BadSignature
from landed.simulator.account import Account
from landed.vonage.signing import Account as Signer
from landed.vonage.signing import Keyring, Windows, bearer_token, verify_sig

LEEWAY_SECONDS = 30
# https://developer.vonage.com/en/getting-started/concepts/signing-messages; only the Java SDK says how old one may be.
SIG_SECONDS = 300.0


class Unauthorized(Exception):
    """Nobody who may ask; `code` is the status by which the SMS API says why."""

    def __init__(self, code: str = "4") -> None:
        super().__init__(code)
        self.code = code


class UnknownApplication(Unauthorized):
    """A token of an application that the account does not have."""


def application_token(application_id: str, private_key: str, *, seconds: int) -> str:
    """A token by which an application sends, good for so many seconds."""
    now = int(time.time())
    claims = {"application_id": application_id, "iat": now, "exp": now + seconds, "jti": str(now)}
    return jwt.encode(claims, private_key, algorithm="RS256")


def application_of(authorization: str | None, account: Account) -> str | None:
    """The id of the application whose token this is, or None for Basic. Unauthorized for anybody else."""
    token = bearer_token((authorization or "").encode())
    if token is None:
        check_basic(authorization, account)
        return None
    try:
        claims = jwt.decode(token, options={"verify_signature": False})
        application = account.applications.get(str(claims.get("application_id")))
        if application is None:
            raise UnknownApplication if claims.get("application_id") else Unauthorized
        jwt.decode(
            token,
            application.public_key,
            algorithms=["RS256"],
            leeway=LEEWAY_SECONDS,
            options={"require": ["iat", "jti"], "verify_aud": False, "verify_sub": False},
        )
    except (jwt.PyJWTError, ValueError) as error:
        raise Unauthorized from error
    return application.id


def check_basic(authorization: str | None, account: Account) -> None:
    """Unauthorized unless this is key and secret of the account."""
    scheme, _, encoded = (authorization or "").partition(" ")
    try:
        decoded = base64.b64decode(encoded, validate=True).decode()
    except ValueError as error:
        raise Unauthorized from error
    key, _, secret = decoded.partition(":")
    if scheme.lower() != "basic" or not _is_account(key, secret, account):
        raise Unauthorized


def check_parameters(parameters: Mapping[str, str], authorization: str | None, account: Account) -> None:
    """Unauthorized unless the SMS API would take who asks: by key and secret, by Basic, or by signature."""
    key, secret, sig = (parameters.get(name, "") for name in ("api_key", "api_secret", "sig"))
    if sig and secret:
        raise Unauthorized("32")
    if sig:
        _check_sig(parameters, account)
    elif key and secret:
        if not _is_account(key, secret, account):
            raise Unauthorized
    elif authorization is not None:
        check_basic(authorization, account)
    else:
        raise Unauthorized("2")


def _check_sig(parameters: Mapping[str, str], account: Account) -> None:
    signer = Signer(
        name="account", secrets=(account.signature_secret.encode(),), method=account.settings.signature_method
    )
    signed = {name.encode(): value.encode() for name, value in parameters.items()}
    if parameters.get("api_key") != account.api_key:
        raise Unauthorized
    try:
        made = verify_sig(signed, Keyring([signer]), Windows(sig_back_seconds=SIG_SECONDS))
    except BadSignature as error:
        raise Unauthorized("14") from error
    if made.is_stale(time.time(), SIG_SECONDS):
        raise Unauthorized("14")


def _is_account(key: str, secret: str, account: Account) -> bool:
    right_key = hmac.compare_digest(key.encode(), account.api_key.encode())
    return hmac.compare_digest(secret.encode(), account.api_secret.encode()) and right_key
