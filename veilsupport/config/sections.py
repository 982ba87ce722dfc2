"""The settings themselves, section by section: each key, what it may be, and the sentence on it in README.md."""

from __future__ import annotations

import difflib
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from veilsupport import rules
from veilsupport.model import REQUEST_CHARACTERS, REQUEST_MESSAGES

Jid = Annotated[str, AfterValidator(rules.bare_jid)]
OwnJid = Annotated[str, AfterValidator(rules.own_jid)]
ComponentName = Annotated[str, AfterValidator(rules.component_name)]
PublicName = Annotated[str, AfterValidator(rules.public_name)]
SiteName = Annotated[str, AfterValidator(rules.site_name)]
OnionClientName = Annotated[str, AfterValidator(rules.site_name)]  # fit for a file name, too
OnionClientKey = Annotated[str, AfterValidator(rules.onion_client_key)]
Language = Annotated[str, AfterValidator(rules.language)]
Origin = Annotated[str, AfterValidator(rules.origin)]
Port = Annotated[int, Field(ge=1, le=65535)]
OpeningHours = Annotated[str, AfterValidator(rules.hours_rule)]
AwayText = Annotated[str, Field(max_length=500)]
Days = Annotated[int, Field(ge=0, le=36_500)]
RoleName = Literal["leads", "answers", "reads", "none"]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class DeskSettings(_Section):
    """What visitors read."""

    name: PublicName = Field(default="Support", description="the desk's name on every page")
    greeting: str = Field(
        default="Write to us. You do not have to say who you are.",
        max_length=1000,
        description="the first sentence on the page",
    )
    hours: OpeningHours = Field(
        default="",
        description="when somebody answers, such as `mon-fri 9-17:30, sat 10-12 Europe/Berlin`; empty: always",
    )
    away: AwayText = Field(default="", description="what visitors read while nobody does; empty: a plain sentence")
    typing: bool = Field(default=True, description="whether visitors and admins are shown that the other is writing")
    read_marks: bool = Field(default=True, description="whether they are shown that the other has read")
    retention_days: Days = Field(default=0, description="messages older than so many days are erased; 0: none is")
    idle_days: Days = Field(
        default=0,
        description="whole conversations in which nothing was said for so many days are erased, and accounts and"
        " sessions that nobody used; 0: none is",
    )

    mark_words: tuple[Annotated[str, Field(min_length=1, max_length=100)], ...] = Field(
        default=(),
        max_length=500,
        description="words and phrases, in any case; a message in which one stands is marked for the admins, and comes"
        " like any other",
    )
    request_messages: Annotated[int, Field(ge=0, le=10_000)] = Field(
        default=REQUEST_MESSAGES, description="so many may a visitor write before the first answer; 0: any number"
    )
    request_characters: Annotated[int, Field(ge=0, le=10_000_000)] = Field(
        default=REQUEST_CHARACTERS, description="so long may these be in all; 0: of any length"
    )


class XmppSettings(_Section):
    """The account through which the desk speaks to the admins, or its component on the operator's own server."""

    jid: OwnJid = Field(
        default="", description='the desk\'s own account, `name@server`; required, unless form is `"component"`'
    )
    host: str = Field(
        default="",
        description="server to dial, an onion address for example; empty: the JID's domain; for a component 127.0.0.1",
    )
    port: Port = Field(default=5222, description="its port; for a component, when it is left out, 5347")
    tls: Literal["starttls", "direct", "none"] = Field(
        default="starttls",
        description="`starttls`, `direct` (TLS from the first byte), or `none` (onion addresses only)",
    )
    certificate: Annotated[str, AfterValidator(rules.certificate_rule)] = Field(
        default="verify",
        description="`verify` by name, a SHA-256 fingerprint that alone is accepted, or `any` (onion addresses only)",
    )
    form: Literal["rooms", "direct", "component"] = Field(
        default="rooms",
        description="`rooms`: one for each visitor, where the server lets us; `direct`: all in one chat; `component`: a"
        " contact for each visitor, on a server of your own (without OMEMO)",
    )
    component: ComponentName = Field(
        default="",
        description="our domain as a component there (XEP-0114), such as `support.example.onion`; the secret is set as"
        " the password is",
    )
    archive: bool = Field(
        default=True,
        description="false: our lines carry XEP-0334's no-store, so that the server does not keep them; one may then"
        " show twice after a crash, and a new device has no history",
    )
    strict_devices: bool = Field(
        default=False,
        description="true: an admin's new OMEMO device gets nothing before `!trust` (else the first use is believed)",
    )

    @property
    def address(self) -> str:
        """Where to dial."""
        return self.host or self.jid.partition("@")[2] or "127.0.0.1"

    @model_validator(mode="before")
    @classmethod
    def _port_of_a_component(cls, values: Any) -> Any:
        is_component = isinstance(values, dict) and values.get("form") == "component"
        return {"port": 5347, **values} if is_component else values

    @model_validator(mode="after")
    def _onions_only(self) -> XmppSettings:
        private = self.address.endswith(".onion") or self.address in ("127.0.0.1", "::1")
        if self.form == "component":
            if not self.component or self.jid:
                raise ValueError('form = "component" needs component, the domain that is ours there, and no jid.')
            if not private:
                raise ValueError("A component is not encrypted: set host to 127.0.0.1 or to an onion address.")
        elif not self.jid or self.component:
            raise ValueError('Set jid to the desk\'s own account; component goes with form = "component" only.')
        if not private and (self.tls == "none" or self.certificate == "any"):
            raise ValueError('tls = "none" and certificate = "any" are for onion addresses, whose name is their key.')
        return self


class AdminSettings(_Section):
    """Someone who answers."""

    jid: Jid = Field(description="account of someone who answers; one such section for each")
    name: PublicName = Field(description="the public name: all a visitor ever sees of them")
    role: RoleName = Field(
        default="leads",
        description="on every site that `roles` does not name: `reads`; `answers`, who also claims and closes; `leads`,"
        " who also assigns, blocks and burns, and sets what holds for all sites if they lead all; or `none`",
    )
    roles: dict[str, RoleName] = Field(
        default={}, description='site\'s name → role there, such as `{ shop = "reads" }`; `""` is the desk\'s own page'
    )
    omemo: Literal["prefer", "require", "off"] = Field(
        default="prefer",
        description="encrypt what goes to them end to end: wherever their devices can, or else send nothing, or never",
    )
    notify_only: bool = Field(
        default=False, description="true: they are told that there is a message, and get its words when they ask"
    )


class TorSettings(_Section):
    """Our own tor."""

    executable: str = Field(default="tor", description="which tor to start: a name looked up in PATH, or a path")
    lines: tuple[Annotated[str, AfterValidator(rules.torrc_line)], ...] = Field(
        default=(), description="further lines for its torrc, such as bridges"
    )


class OnionClientSettings(_Section):
    """Who may reach one of our onion services."""

    name: OnionClientName
    key: OnionClientKey


def _distinct_clients(clients: tuple[OnionClientSettings, ...]) -> tuple[OnionClientSettings, ...]:
    if len({each.name for each in clients}) < len(clients):
        raise ValueError("Every client needs a name of its own.")
    return clients


OnionClients = Annotated[tuple[OnionClientSettings, ...], AfterValidator(_distinct_clients)]


class OnionSettings(_Section):
    """The page's own onion service."""

    client: OnionClients = Field(
        default=(), description="who alone may reach the page; none: everybody; `veilsupport onion client` writes these"
    )


class XmppOnionSettings(_Section):
    """A second onion service on our own tor, in front of the operator's own XMPP server."""

    port: Port = Field(description="your own XMPP server's port on 127.0.0.1; the section may be left out: none")
    client: OnionClients = Field(
        default=(), description="who may reach it; `veilsupport onion client --xmpp` writes these"
    )


class WebSettings(_Section):
    """The page without tor."""

    port: Port = Field(default=8080, description="port on 127.0.0.1, with `--no-tor` only")
    prefix: Annotated[str, AfterValidator(rules.path_prefix)] = Field(
        default="", description="stands before every path, such as `/support`, behind a front of your own"
    )


class HealthSettings(_Section):
    """Health checks and metrics for programs on this machine."""

    port: Annotated[int, Field(ge=0, le=65535)] = Field(
        default=0, description="port on 127.0.0.1 for `/live`, `/ready` and `/metrics`; 0: none"
    )


class SiteSettings(_Section):
    """A place through which visitors come; `veilsupport site` writes these."""

    name: SiteName = Field(
        description="in addresses (`/s/<name>`): a to z, 0 to 9 and hyphens; one section for each site"
    )
    title: PublicName = Field(description="the name on its pages")
    greeting: str = Field(default="", max_length=1000, description="the first sentence; empty: the desk's own")
    accent: Annotated[str, AfterValidator(rules.accent_rule)] = Field(
        default="", description="colour as `#rrggbb`; empty: the desk's own"
    )
    languages: tuple[Language, ...] = Field(default=(), description="BCP 47 tags; the first is the page's")
    origins: tuple[Origin, ...] = Field(
        default=(), description="exact origins whose pages may use the API and embed the chat"
    )
    hours: OpeningHours = Field(default="", description="when somebody answers; empty: the desk's own, or `always`")
    away: AwayText = Field(default="", description="what visitors read while nobody does; empty: the desk's own")
    typing: bool | None = Field(default=None, description="left out: as the desk's own")
    read_marks: bool | None = Field(default=None, description="left out: as the desk's own")
    retention_days: Days | None = Field(default=None, description="left out: as the desk's own")
    idle_days: Days | None = Field(default=None, description="left out: as the desk's own")


class Config(_Section):
    """The whole file. Every section may be left out."""

    desk: DeskSettings = DeskSettings()
    xmpp: XmppSettings | None = None
    admin: tuple[AdminSettings, ...] = ()
    tor: TorSettings = TorSettings()
    onion: OnionSettings = OnionSettings()
    xmpp_onion: XmppOnionSettings | None = None
    web: WebSettings = WebSettings()
    health: HealthSettings = HealthSettings()
    site: tuple[SiteSettings, ...] = ()

    @model_validator(mode="after")
    def _distinct_admins(self) -> Config:
        for values in ([each.jid for each in self.admin], [each.name.casefold() for each in self.admin]):
            if len(set(values)) < len(values):
                raise ValueError("Every admin needs a JID and a name of their own.")
        if len({each.name for each in self.site}) < len(self.site):
            raise ValueError("Every site needs a name of its own.")
        _check_roles(self.admin, self.site)
        if self.xmpp and self.xmpp.jid in {each.jid for each in self.admin}:
            raise ValueError("The desk's own account cannot be an admin too; give it an account of its own.")
        if self.xmpp and self.xmpp.component and any(each.omemo == "require" for each in self.admin):
            raise ValueError('omemo = "require" is not possible with form = "component", which has no keys.')
        return self


def _check_roles(admins: tuple[AdminSettings, ...], sites: tuple[SiteSettings, ...]) -> None:
    """ValueError: one names no site, but nearly one that those roles do not name.

    Other names may stand there: a site that was removed leaves its conversations, and who may see them.
    """
    known = {"", *(site.name for site in sites)}
    for roles in (each.roles for each in admins):
        for name in sorted(roles.keys() - known):
            if near := difflib.get_close_matches(name, known - roles.keys(), n=1):
                hint = f"Did you mean {near[0]}? If not, give that one a role there too."
                raise ValueError(f"An admin's roles name a site that is not there. {hint}")
