"""What each event adds to an open page without scripts. What they look like together is told in `live`.

A stream only grows: what was sent cannot be taken back. So what stands on the page already is changed by a `<style>`
that follows, with the nonce of the answer's policy. Knows nothing of HTTP and of time but the clock.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from veilsupport.model import (
    AttendanceChanged,
    Author,
    Changed,
    Ended,
    Event,
    Message,
    MessageState,
    Progress,
    Progressed,
    ReadUpTo,
    Said,
    Session,
    SignedOut,
    Site,
    Standing,
    StandingChanged,
    Typing,
)
from veilsupport.web.attended import Attended, DeskIs
from veilsupport.web.pages import HISTORY, Pages
from veilsupport.web.reading import Reading
from veilsupport.web.told import words_of

TYPING_EVERY_SECONDS: Final = 3.0


class Fragments:
    """One open page: what it shows by now, and how it goes on. Made after subscribing, so that nothing is missed."""

    def __init__(self, pages: Pages, session: Session, site: Site, nonce: str) -> None:
        self._pages = pages
        self._look = pages.look
        self._session = session
        self._reading = Reading(pages.desk, session)
        self._site = site
        self._nonce = nonce
        self.attended = pages.attended(site)  # as the head of the page has to say it
        self._away = self.attended.away  # the sentence that the page carries, shown or not
        self._standing = Standing.OPEN  # as the page says, or does not have to say
        self._first_seq = 0
        self._last_seq = 0
        self._progress: dict[int, Progress] = {}
        self._words: dict[int, int] = {}  # message → hash of how it reads on the page, here or further down
        self._versions: dict[int, int] = {}  # message → how often its words were replaced by ones further down
        self._typed_at: dict[str, float] = {}  # admin → when the page was last told that they write
        self._typist = ""  # whom the line about writing names
        self._typings = 0

    def first(self) -> str:
        """The newest messages, and what has to be known before writing."""
        conversation = self._pages.desk.conversation(self._session)
        self._standing = conversation.standing if conversation else Standing.OPEN
        return self._show(self._reading.history(limit=HISTORY)) + self._look.standing(conversation)

    def of(self, event: Event) -> str:
        """Empty when there is nothing to add."""
        match event:
            case Said(message):
                return self._say(message)
            case Changed(message):
                return self._change(message)
            case Progressed(seq, progress):
                return self._move(seq, self._reading.shown(progress))
            case Typing(name):
                return self._type(name)
            case StandingChanged(standing):
                return self._stand(standing)
            case AttendanceChanged():
                return self._attend()
            case Ended(burned):
                return self._look.render("ended.html", burned=burned)
            case ReadUpTo() | SignedOut():
                return ""

    # ---- messages ------------------------------------------------------------------------------------------

    def _say(self, message: Message) -> str:
        """The message, after whatever lies between it and the last one: nothing, as long as events come in order."""
        gap = message.seq - self._last_seq - 1
        missed = self._reading.history(before=message.seq, limit=gap) if gap > 0 else []
        return self._show([*missed, message])

    def _show(self, messages: list[Message]) -> str:
        new = [message for message in messages if message.seq > self._last_seq]
        if not new:
            return ""
        self._first_seq = self._first_seq or new[0].seq
        self._last_seq = new[-1].seq
        self._progress |= {message.seq: message.progress for message in new}
        self._words |= {message.seq: words_of(message) for message in new}
        quiet = self._end_typing() if any(message.author is Author.ADMIN for message in new) else ""
        return quiet + self._look.messages(new, today=int(self._pages.clock() // 86400), site=self._site)

    def _change(self, message: Message) -> str:
        """The old words go, wherever on the page they stand; those of a correction follow.

        A correction of what is too old to be here is told as well, as it may matter to the visitor now.
        """
        seq = message.seq
        if seq > self._last_seq:
            return self._say(message)  # in its new form
        words, known = words_of(message), self._words.get(seq)
        if words == known or (known is None and message.state is MessageState.RETRACTED):
            return ""
        self._words[seq] = words
        version = self._versions[seq] = self._versions.get(seq, 0) + 1
        return self._look.render(
            "changed.html",
            self._site,
            m=message,
            version=version,
            is_here=seq >= self._first_seq,
            nonce=self._nonce,
        )

    def _move(self, seq: int, progress: Progress) -> str:
        """An event older than the history that is shown, or of a message that is not shown, says nothing new."""
        if progress <= self._progress.get(seq, Progress.READ):
            return ""
        self._progress[seq] = progress
        return self._look.render("progressed.html", seq=seq, progress=progress, nonce=self._nonce)

    # ---- those who answer ----------------------------------------------------------------------------------

    def _attend(self) -> str:
        """Everybody is told of every change; only what this site's visitors are to read is written."""
        before, self.attended = self.attended, self._pages.attended(self._site)
        if self.attended == before:
            return ""
        return self._archive(before.archived) + self._retell(replace(before, archived=self.attended.archived))

    def _archive(self, before: bool) -> str:
        if self.attended.archived is before:
            return ""
        return self._look.render("archived.html", self._site, attended=self.attended, nonce=self._nonce)

    def _retell(self, before: Attended) -> str:
        """Which of the three sentences holds now."""
        if self.attended == before:
            return ""
        retold = self.attended.state is DeskIs.AWAY and self.attended.away != self._away
        self._away = self.attended.away or self._away
        return self._look.render("line.html", self._site, attended=self.attended, retold=retold, nonce=self._nonce)

    def _stand(self, standing: Standing) -> str:
        """An admin who closes what is closed says nothing to the visitor."""
        before, self._standing = self._standing, standing
        return self._look.render("standing.html", standing=standing) if standing is not before else ""

    def _type(self, name: str) -> str:
        """Of each admin only so often: a client may tell of every key."""
        now = self._pages.clock()
        if 0 <= now - self._typed_at.get(name, float("-inf")) < TYPING_EVERY_SECONDS:
            return ""
        self._typed_at[name] = now
        self._typings += 1
        renamed, self._typist = name != self._typist, name
        return self._look.render("typing.html", name=name, renamed=renamed, number=self._typings % 2, nonce=self._nonce)

    def _end_typing(self) -> str:
        """A message of an admin has come: it was this that they wrote."""
        if not self._typed_at:
            return ""
        self._typed_at.clear()
        return f'<style nonce="{self._nonce}">.typing{{animation-name:none}}</style>\n'
