"""The settings in the words of the desk and the XMPP edge: sites, admins, and the desk's own account.

The account's password is not among the settings: it rests in the database, sealed to the appliance's key.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final

from veilsupport import crypto
from veilsupport.config import AdminSettings, Config, XmppSettings
from veilsupport.crypto import ApplianceKey
from veilsupport.desk import Desk
from veilsupport.errors import Duplicate, SealError, SetupError
from veilsupport.model import Admin, EndToEnd, Intake, Private, Role, Site
from veilsupport.socks import SocksProxy
from veilsupport.store import Store
from veilsupport.xmpp import Account, Bridge, ComponentAccount, Tls, Trust

PASSWORD_SETTING: Final = "xmpp-password"  # noqa: S105 - the name of the setting
_NEVER_DIALLED: Final = SocksProxy(("127.0.0.1", 9))


def sites_of(settings: Config) -> dict[str, Site]:
    """The sites by name; "" is the desk's own page. What is not set for a site is as the desk's."""
    desk = settings.desk
    own = Site(
        "",
        desk.name,
        desk.greeting,
        hours=desk.hours,
        away=desk.away,
        typing=desk.typing,
        read_marks=desk.read_marks,
        retention_days=desk.retention_days,
        idle_days=desk.idle_days,
        request_messages=desk.request_messages,
        request_characters=desk.request_characters,
        mark_words=desk.mark_words,
    )
    named = [replace(own, **each.model_dump(exclude_defaults=True)) for each in settings.site]
    return {each.name: each for each in (own, *named)}


def admins_of(settings: Config) -> tuple[Admin, ...]:
    """Those who answer, and what they may do where."""
    return tuple(_admin(each, {"", *(site.name for site in settings.site)}) for each in settings.admin)


def _admin(settings: AdminSettings, sites: Collection[str]) -> Admin:
    """Of a site that is no more they have the lowest of their roles.

    Its conversations stay, and must not come to those who were shut out of it.
    """
    default = Role[settings.role.upper()]
    given = {site: Role[role.upper()] for site, role in settings.roles.items()}
    everywhere = dict.fromkeys(sites, default) | given if given else {}
    return Admin(
        settings.name,
        Private(settings.jid),
        role=min([default, *given.values()]),
        roles=tuple(sorted(everywhere.items())),
        end_to_end=EndToEnd(settings.omemo),
        notify_only=settings.notify_only,
    )


def stored_password(store: Store, key: ApplianceKey) -> Private:
    """The XMPP account's password. SetupError when there is none, or it belongs to another key."""
    wrapped = store.setting(PASSWORD_SETTING)
    if wrapped is None:
        raise SetupError("The XMPP account's password is not set.", hint="Run: veilsupport setup")
    try:
        return Private(crypto.unwrap_text(key.settings, wrapped, PASSWORD_SETTING.encode()))
    except SealError:
        raise SetupError(
            "The XMPP account's password does not open with this appliance's key.", hint="Run: veilsupport setup"
        ) from None


def kept_password(path: Path, key: ApplianceKey) -> Private:
    """The same out of the database at `path`. SetupError as above."""
    store = Store(path)
    try:
        return stored_password(store, key)
    finally:
        store.close()


async def pass_over(path: Path, settings: Config, key: ApplianceKey, stanzas: Collection[str], *, now: float) -> None:
    """Let the desk take these stanzas for seen (model.Intake's keys): nobody but setup was meant."""
    with desk_at_rest(path, settings, key) as desk:
        for stanza in stanzas:
            with contextlib.suppress(Duplicate):
                await desk.skip(Intake(stanza), now=now)


async def keep_password(path: Path, key: ApplianceKey, password: Private) -> None:
    """Seal the XMPP account's password into the database at `path`."""
    store = Store(path)
    try:
        wrapped = crypto.wrap_text(key.settings, password.reveal(), PASSWORD_SETTING.encode())
        await store.set_setting(PASSWORD_SETTING, wrapped)
    finally:
        store.close()


def account_of(xmpp: XmppSettings, password: Private, proxy: SocksProxy | None) -> Account:
    """The settings in the XMPP edge's words. SetupError: a combination that would be unsafe."""
    trust = {"verify": Trust.VERIFY, "any": Trust.ANY}.get(xmpp.certificate, Trust.PIN)
    return Account(
        jid=Private(xmpp.jid),
        password=password,
        host=xmpp.address,
        port=xmpp.port,
        tls=Tls(xmpp.tls),
        trust=trust,
        fingerprint=xmpp.certificate if trust is Trust.PIN else "",
        proxy=proxy,
    )


def component_of(xmpp: XmppSettings, secret: Private, proxy: SocksProxy | None) -> ComponentAccount:
    """The same for a component. SetupError as above."""
    return ComponentAccount(Private(xmpp.component), secret, xmpp.address, xmpp.port, proxy)


@contextlib.contextmanager
def desk_at_rest(path: Path, settings: Config, key: ApplianceKey) -> Iterator[Desk]:
    """The desk over the database at `path`, while no appliance runs on it."""
    store = Store(path)
    desk = Desk(store, key, admins_of(settings), sites=sites_of(settings), uses_rooms=uses_rooms(settings))
    try:
        yield desk
    finally:
        desk.close()
        store.close()


def uses_rooms(settings: Config) -> bool:
    """Whether conversations go into rooms, as far as nothing is known of the server."""
    return settings.xmpp is None or settings.xmpp.form == "rooms"


async def omemo_identity(path: Path, settings: Config, key: ApplianceKey) -> str | None:
    """Our OMEMO fingerprint as an `xmpp:` URI, made now if there was none; None when no admin can use it."""
    xmpp = settings.xmpp
    if xmpp is None or xmpp.form == "component":
        return None
    account = account_of(xmpp, kept_password(path, key), _NEVER_DIALLED)
    with desk_at_rest(path, settings, key) as desk:
        return await Bridge(desk, account, on_change=lambda state: None).identity()
