"""Draws static/badge-open.png, badge-away.png and badge-down.png with Firefox.

PYTHONPATH=. .venv/bin/python packaging/badges.py
"""

from __future__ import annotations

import base64
from pathlib import Path
from urllib.parse import quote

from tests.live.firefox import Firefox

STATIC = Path(__file__).resolve().parent.parent / "static"
WORDS = {
    "open": ("●", "#14614f", "The desk is open"),
    "away": ("○", "#56625e", "Away now, messages kept"),
    "down": ("○", "#a3271d", "Line down, messages kept"),
}
PAGE = """<!doctype html><meta charset="utf-8"><style>
p {{ box-sizing: border-box; width: 212px; margin: 0; padding: 4px; text-align: center;
     font: 600 12px/20px "DejaVu Sans", sans-serif; color: #1b2422; background: #f4f5f2; border: 1px solid #56625e }}
b {{ color: {colour}; padding-inline-end: 2px }}
</style><p><b>{mark}</b> {words}</p>"""


def draw() -> None:
    with Firefox(prefs={"layout.css.devPixelsPerPx": "2"}) as browser:
        for name, (mark, colour, words) in WORDS.items():
            browser.go("data:text/html," + quote(PAGE.format(mark=mark, colour=colour, words=words)))
            browser.find_text(words)
            picture = browser.command("WebDriver:TakeScreenshot", {"id": browser.find("p"), "full": False})
            (STATIC / f"badge-{name}.png").write_bytes(base64.b64decode(picture))


if __name__ == "__main__":
    draw()
