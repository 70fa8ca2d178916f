"""Whose memory a request may see: bearer tokens, each bound to one tenant on the server."""

from __future__ import annotations

import hashlib
import hmac
import os
from collections.abc import Mapping
from pathlib import Path

import yaml

from memkv.errors import ConfigError, MemkvError
from memkv.store.names import check_name

VARIABLE = "MEMKV_TOKENS"
SHORTEST = 16  # characters of a token
LOOPBACK = ("127.0.0.1", "localhost", "::1")


class Unauthorized(MemkvError):
    """No token, or one that opens nothing."""


class Keys:
    """Tokens and the tenants that they open. Without any, all requests are those of one tenant.

    Args:
        tokens: token -> tenant.
        otherwise: the tenant where there are no tokens.

    Raises:
        ConfigError: a token that is too short, or a tenant that cannot be named so.
    """

    def __init__(self, tokens: Mapping[str, str], otherwise: str = "default") -> None:
        for token, tenant in tokens.items():
            if len(token) < SHORTEST:
                raise ConfigError(
                    f"The token of tenant {tenant!r} has {len(token)} characters",
                    f"Take {SHORTEST} or more: python -c 'import secrets; print(secrets.token_urlsafe())'",
                )
            check_name(tenant, "tenant")
        check_name(otherwise, "tenant")
        self._tenants = {digest(token): tenant for token, tenant in tokens.items()}
        self._otherwise = otherwise

    def __len__(self) -> int:
        """How many tokens there are."""
        return len(self._tenants)

    def tenant(self, header: str | None) -> str:
        """The tenant of an `Authorization` header.

        Raises:
            Unauthorized: there are tokens, and this is none of them.
        """
        if not self._tenants:
            return self._otherwise
        scheme, _, token = (header or "").partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            raise Unauthorized(
                "No token was sent", "Send `Authorization: Bearer TOKEN`; whoever runs the server has it."
            )
        sent = digest(token.strip())
        # All are compared, so that the time says nothing about how much of a token was right.
        found = [tenant for known, tenant in self._tenants.items() if hmac.compare_digest(known, sent)]
        if not found:
            raise Unauthorized("This token opens nothing here", "Check it with whoever runs the server.")
        return found[0]


def digest(token: str) -> str:
    """A token as it is held in memory."""
    return hashlib.sha256(token.encode()).hexdigest()


def read_keys(file: Path | None, otherwise: str = "default") -> Keys:
    """Tokens from a YAML file `tenant: token`, or from `MEMKV_TOKENS` as `tenant=token,tenant=token`.

    Raises:
        ConfigError: a file that cannot be read, or does not say this.
    """
    if file is None:
        pairs = [pair.partition("=") for pair in os.environ.get(VARIABLE, "").split(",") if pair.strip()]
        wrong = next((tenant for tenant, equals, _ in pairs if not equals), None)
        if wrong is not None:
            raise ConfigError(f"{VARIABLE} is not tenant=token,tenant=token", "Name a tenant before each token.")
        return distinct([(tenant.strip(), token.strip()) for tenant, _, token in pairs], VARIABLE, otherwise)
    try:
        found = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"Cannot read the tokens in {file}: {error}", "Write lines like `ada: TOKEN`.") from error
    if not isinstance(found, dict) or not all(isinstance(part, str) for pair in found.items() for part in pair):
        raise ConfigError(f"{file} is not a list of `tenant: token`", "Write lines like `ada: TOKEN`, both as text.")
    return distinct(list(found.items()), str(file), otherwise)


def distinct(pairs: list[tuple[str, str]], where: str, otherwise: str) -> Keys:
    """Keys of pairs in which no token opens two tenants.

    Raises:
        ConfigError: one does.
    """
    tokens = {token: tenant for tenant, token in pairs}
    if len(tokens) < len(pairs):
        raise ConfigError(f"Two tenants share a token in {where}", "Give each its own.")
    return Keys(tokens, otherwise)


def check_host(host: str, keys: Keys) -> None:
    """Refuse to listen where others can reach it while nothing asks who they are.

    Raises:
        ConfigError: beyond loopback without a token.
    """
    if host not in LOOPBACK and not len(keys):
        raise ConfigError(
            f"Listening on {host} without a token would open every memory to whoever reaches this machine",
            f"Pass --tokens FILE, or set {VARIABLE}; without, the host stays 127.0.0.1.",
        )
