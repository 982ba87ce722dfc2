"""What a single setting may look like. Each rule returns its normal form, or raises ValueError with the hint.

Used for the settings' file and for the answers that setup asks for.
"""

from __future__ import annotations

import base64
import re
from typing import Final

from veilsupport import hours

_BARE_JID: Final = re.compile(r"[^\s@/\"&'<>:]+@[^\s@/\"&'<>:]+")  # RFC 7622 §3.3.1, loosely
_DOMAIN: Final = re.compile(r"[a-z0-9-]+(?:\.[a-z0-9-]+)*")


def bare_jid(value: str) -> str:
    """A bare JID, in lower case (RFC 7622 compares so). ValueError: it has another shape."""
    value = value.strip()
    if len(value) > 512 or not _BARE_JID.fullmatch(value):
        raise ValueError("Write it as name@server, without a resource.")
    return value.lower()


def own_jid(value: str) -> str:
    """The same; or "", for a component has none."""
    return bare_jid(value) if value else ""


def component_name(value: str) -> str:
    """A domain, in lower case, or ""."""
    value = value.strip().lower()
    if value and (len(value) > 255 or not _DOMAIN.fullmatch(value)):
        raise ValueError("Write it as your server's configuration names it, such as support.example.onion.")
    return value


def certificate_rule(value: str) -> str:
    """`verify`, `any`, or a SHA-256 fingerprint, which comes back as 64 hexadecimal digits."""
    if value in ("verify", "any"):
        return value
    digits = value.removeprefix("sha256:").replace(":", "").replace(" ", "").lower()
    if not re.fullmatch(r"[0-9a-f]{64}", digits):
        raise ValueError('Write "verify", "any" (onion addresses only), or the SHA-256 fingerprint.')
    return digits


def public_name(value: str) -> str:
    value = value.strip()
    if not value or len(value) > 40 or not value.isprintable():
        raise ValueError("Write 1 to 40 ordinary characters.")
    return value


def site_name(value: str) -> str:
    if not re.fullmatch(r"[a-z0-9](?:[a-z0-9-]{0,30}[a-z0-9])?", value):
        raise ValueError("Write 1 to 32 of a to z, 0 to 9 and hyphens.")
    return value


def accent_rule(value: str) -> str:
    if value and not re.fullmatch(r"#[0-9a-fA-F]{6}", value):
        raise ValueError("Write a colour as #rrggbb.")
    return value.lower()


def onion_client_key(value: str) -> str:
    """X25519 in base32, as tor reads it; a key that it would pass over must not look like one."""
    if not re.fullmatch(r"[A-Z2-7]{52}", value) or not any(base64.b32decode(value + "====")):
        raise ValueError("Let veilsupport onion client add make it.")
    return value


def language(value: str) -> str:
    if not re.fullmatch(r"[a-zA-Z]{2,3}(?:-[a-zA-Z0-9]{2,8})*", value):
        raise ValueError("Write a language tag such as en or pt-BR.")
    return value


def origin(value: str) -> str:
    """Scheme, host and port, as a browser sends them (RFC 6454 §6.2): lower case, no default port, no path."""
    value = value.strip().removesuffix("/").casefold()
    found = re.fullmatch(r"(https?)://([a-z0-9.-]+|\[[0-9a-f:]+\])(?::(\d{1,5}))?", value)
    if not found:
        raise ValueError("Write an origin such as https://shop.example or http://….onion, without a path.")
    default = {"http": "80", "https": "443"}[found[1]]
    return value.removesuffix(f":{default}") if found[3] == default else value


def hours_rule(value: str) -> str:
    """As it was written. ValueError says what is wrong with it."""
    hours.parse(value)
    return value


def path_prefix(value: str) -> str:
    if value and not re.fullmatch(r"(?:/[a-zA-Z0-9._~-]+)+", value):
        raise ValueError("Write it as /support: begins with a slash, does not end with one.")
    return value


def torrc_line(value: str) -> str:
    if "\n" in value or "\r" in value or not value.strip():
        raise ValueError("Write one torrc line in each string.")
    return value
