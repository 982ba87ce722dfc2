"""XEP-0045 as values: the forms, who is in a room, and who spoke there."""

from __future__ import annotations

from xml.etree.ElementTree import Element, SubElement, fromstring

from veilsupport.xmpp import muc
from veilsupport.xmpp.muc import Joined, Occupant, Occupants

ROOM = "v-0123@rooms.example"
ADA = "ada@chat.example"
_X = "{http://jabber.org/protocol/muc#user}x"


def xml(text: str) -> Element:
    return fromstring(text)  # noqa: S314 - our own text


def presence(nick: str, *codes: int, kind: str = "", jid: str = f"{ADA}/phone", room: str = ROOM) -> Element:
    element = Element("{jabber:client}presence", {"from": f"{room}/{nick}", **({"type": kind} if kind else {})})
    user = SubElement(element, _X)
    SubElement(user, _X.replace("}x", "}item"), {"affiliation": "member", **({"jid": jid} if jid else {})})
    for code in codes:
        SubElement(user, _X.replace("}x", "}status"), code=str(code))
    return element


def entered(*nicks: str) -> Occupants:
    """We are in as heron-42, behind those."""
    occupants = Occupants()
    for nick in nicks:
        assert occupants.take(presence(nick, jid=f"{nick}@chat.example/phone")) is None
    assert occupants.take(presence("heron-42", 110, jid="desk@chat.example/x")) == Joined("heron-42", created=False)
    return occupants


def nicks(occupants: Occupants) -> set[str]:
    return {each.nick for each in occupants.of(ROOM)}


# ---- the owner's form ------------------------------------------------------------------------------------------------

FORM = """
<iq xmlns='jabber:client'><query xmlns='http://jabber.org/protocol/muc#owner'><x xmlns='jabber:x:data' type='form'>
  <field var='FORM_TYPE' type='hidden'><value>http://jabber.org/protocol/muc#roomconfig</value></field>
  <field type='fixed'><value>Read this first</value></field>
  <field var='muc#roomconfig_roomname'><value/></field>
  <field var='muc#roomconfig_membersonly'><value>0</value></field>
  <field var='muc#roomconfig_whois'><value>moderators</value></field>
  <field var='muc#roomconfig_presencebroadcast'><value>moderator</value><value>participant</value></field>
  <field var='mam'><value>0</value></field>
</x></query></iq>
"""


def _values(query: Element) -> dict[str | None, list[str | None]]:
    form = query.find("{jabber:x:data}x")
    assert form is not None
    assert form.get("type") == "submit"
    fields = form.findall("{jabber:x:data}field")
    return {each.get("var"): [value.text for value in each.findall("{jabber:x:data}value")] for each in fields}


def test_what_the_server_knows_of_our_wishes_is_filled_in_and_the_rest_left_as_it_is() -> None:
    assert _values(muc.settings_form(xml(FORM), "heron-42 · Help")) == {
        "FORM_TYPE": ["http://jabber.org/protocol/muc#roomconfig"],
        "muc#roomconfig_roomname": ["heron-42 · Help"],
        "muc#roomconfig_membersonly": ["1"],
        "muc#roomconfig_whois": ["anyone"],
        "muc#roomconfig_presencebroadcast": ["moderator", "participant"],
        "mam": ["1"],
    }


def test_a_field_can_be_taken_out_of_a_form() -> None:
    form = xml(FORM)
    assert muc.offers(form, "mam")
    smaller = muc.without(form, "mam")
    assert not muc.offers(smaller, "mam")
    assert muc.offers(form, "mam")  # which is left as it was
    assert "mam" not in _values(muc.settings_form(smaller, "x"))
    assert len(_values(muc.settings_form(smaller, "x"))) == 5


# ---- what services and rooms say of themselves -----------------------------------------------------------------------


def disco(kind: str, *features: str) -> Element:
    named = "".join(f"<feature var='{feature}'/>" for feature in features)
    identity = f"<identity category='conference' type='{kind}'/>"
    return xml(
        f"<iq xmlns='jabber:client'><query xmlns='http://jabber.org/protocol/disco#info'>{identity}{named}</query></iq>"
    )


def test_a_service_of_rooms_is_told_from_a_gateway_that_looks_like_one() -> None:
    assert muc.has_rooms(disco("text", muc.MUC, "vcard-temp"))
    assert not muc.has_rooms(disco("irc", muc.MUC))
    assert not muc.has_rooms(disco("text", "vcard-temp"))
    assert muc.features(disco("text", "muc_hidden", "muc_persistent")) == {"muc_hidden", "muc_persistent"}


def test_lists_of_members_are_read_and_changed() -> None:
    answer = xml(
        "<iq xmlns='jabber:client'><query xmlns='http://jabber.org/protocol/muc#admin'>"
        "<item affiliation='member' jid='Ada@chat.example'/><item affiliation='member'/></query></iq>"
    )
    assert muc.affiliated(answer) == {ADA}
    items = list(muc.affiliations([ADA], removed=["bert@chat.example"]))
    assert [(each.get("jid"), each.get("affiliation")) for each in items] == [
        (ADA, "member"),
        ("bert@chat.example", "none"),
    ]


def test_an_invitation_goes_both_ways() -> None:
    direct, mediated = muc.invitations(ROOM, ADA, "heron-42")
    assert (direct.get("to"), mediated.get("to")) == (ADA, ROOM)
    assert direct[0].attrib == {"jid": ROOM, "reason": "heron-42"}
    assert mediated[0][0].get("to") == ADA


# ---- who spoke -------------------------------------------------------------------------------------------------------


def test_of_an_archived_line_the_room_knows_the_speaker_and_its_word_is_the_last() -> None:
    line = Element("{jabber:client}message")
    assert muc.real_speaker(line) == ""
    for jid in (f"{ADA}/phone", "Mallory@chat.example/phone"):
        SubElement(SubElement(line, _X), _X.replace("}x", "}item"), jid=jid)
    assert muc.real_speaker(line) == "mallory@chat.example"
    SubElement(SubElement(line, _X), _X.replace("}x", "}item"))
    assert muc.real_speaker(line) == ""


# ---- who is in -------------------------------------------------------------------------------------------------------


def test_we_are_in_when_our_own_presence_comes_and_it_says_whether_the_room_is_new() -> None:
    occupants = Occupants()
    assert occupants.take(presence("ada")) is None
    assert ROOM not in occupants
    assert occupants.take(presence("heron-42", 110, 201, jid="desk@chat.example/x")) == Joined("heron-42", created=True)
    assert ROOM in occupants
    assert occupants.own_nick(ROOM) == "heron-42"
    assert occupants.take(presence("heron-42", 110, jid="desk@chat.example/x")) is None  # again, with another status
    assert set(occupants.of(ROOM)) == {Occupant("ada", ADA), Occupant("heron-42", "desk@chat.example")}


def test_a_room_may_give_us_another_nick_than_we_asked_for() -> None:
    occupants = Occupants()
    assert occupants.take(presence("heron-42-2", 110, 210, jid="")) == Joined("heron-42-2", created=False)
    assert occupants.own_nick(ROOM) == "heron-42-2"


def test_a_nick_stands_for_whoever_has_it_now() -> None:
    occupants = entered("ada", "bert")
    assert occupants.speaker(ROOM, "ada") == ADA
    assert occupants.speaker(ROOM, "Ada") == ""
    occupants.take(presence("ada", kind="unavailable"))
    assert occupants.speaker(ROOM, "ada") == ""
    occupants.take(presence("ada", jid="Mallory@chat.example/x"))
    assert occupants.speaker(ROOM, "ada") == "mallory@chat.example"
    assert occupants.speaker("other@rooms.example", "ada") == ""


def test_a_change_of_nick_is_no_leaving() -> None:
    occupants = entered("ada")
    occupants.take(presence("ada", 303, kind="unavailable"))
    occupants.take(presence("ada-lovelace"))
    assert occupants.speaker(ROOM, "ada-lovelace") == ADA
    assert nicks(occupants) == {"ada-lovelace", "heron-42"}
    occupants.take(presence("heron-42", 303, 110, kind="unavailable", jid="desk@chat.example/x"))
    assert ROOM in occupants
    assert occupants.take(presence("heron-43", 110, jid="desk@chat.example/x")) is None
    assert occupants.own_nick(ROOM) == "heron-43"
    assert nicks(occupants) == {"ada-lovelace", "heron-43"}


def test_whoever_is_thrown_out_is_gone_and_when_it_is_us_so_is_the_room() -> None:
    occupants = entered("ada", "bert")
    occupants.take(presence("bert", 307, kind="unavailable"))
    assert nicks(occupants) == {"ada", "heron-42"}
    occupants.take(presence("heron-42", 110, 307, kind="unavailable", jid="desk@chat.example/x"))
    assert ROOM not in occupants
    assert occupants.of(ROOM) == []
    assert occupants.own_nick(ROOM) == ""


def test_some_rooms_do_not_say_that_it_is_us_who_leave() -> None:
    occupants = entered("ada")
    occupants.take(presence("heron-42", 332, kind="unavailable", jid=""))
    assert ROOM not in occupants


def test_two_devices_under_one_nick_are_one_occupant() -> None:
    occupants = entered("ada")
    occupants.take(presence("ada", jid=f"{ADA}/tablet"))
    assert [each for each in occupants.of(ROOM) if each.nick == "ada"] == [Occupant("ada", ADA)]
    occupants.take(presence("ada", jid=f"{ADA}/phone"))  # what a room sends when one of them leaves
    assert occupants.speaker(ROOM, "ada") == ADA
    occupants.take(presence("ada", kind="unavailable", jid=f"{ADA}/phone"))
    assert occupants.speaker(ROOM, "ada") == ""


def test_errors_and_requests_change_nothing() -> None:
    occupants = entered("ada")
    for kind in ("error", "subscribe", "probe"):
        assert occupants.take(presence("ada", kind=kind, jid="mallory@chat.example/x")) is None
    assert occupants.speaker(ROOM, "ada") == ADA


def test_rooms_do_not_mix_and_a_new_session_knows_none() -> None:
    occupants = entered("ada")
    other = "v-4567@rooms.example"
    occupants.take(presence("ada", jid="mallory@chat.example/x", room=other.upper()))
    assert occupants.speaker(other, "ada") == "mallory@chat.example"
    occupants.forget(other)
    assert occupants.of(other) == []
    assert ROOM in occupants
    occupants.clear()
    assert ROOM not in occupants
    assert occupants.of(ROOM) == []
