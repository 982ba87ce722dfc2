"""A site's accent colour, made fit for both colour schemes.

Whatever colour an operator writes, links and buttons stay readable: the colour is mixed with black (light scheme) or
white (dark scheme) until its contrast is at least 4.5 : 1 against the least favourable background of the
stylesheet (WCAG 2.2, success criterion 1.4.3). Pure.
"""

from __future__ import annotations

import functools
from typing import Final

CONTRAST: Final = 4.5

# From static/style.css: --mine, the background nearest to the middle; and what stands on a button, --on-main.
LIGHT_BACK, LIGHT_TEXT = "#dcece5", "#ffffff"
DARK_BACK, DARK_TEXT = "#1f3b33", "#0c1f19"

_STEPS: Final = 50


@functools.cache
def styles(accent: str) -> str:
    """The rules that follow the stylesheet; empty when there is no accent. `accent` is #rrggbb."""
    if not accent:
        return ""
    light, dark = fitted(accent, "#000000", LIGHT_BACK), fitted(accent, "#ffffff", DARK_BACK)
    return (
        f":root{{--main:{light};--on-main:{LIGHT_TEXT}}}"
        f"@media (prefers-color-scheme: dark){{:root{{--main:{dark};--on-main:{DARK_TEXT}}}}}"
    )


def fitted(accent: str, towards: str, back: str) -> str:
    """The colour nearest to `accent`, on its way to `towards`, that can be read on `back`."""
    for step in range(_STEPS + 1):
        mixed = _mixed(accent, towards, step / _STEPS)
        if contrast(mixed, back) >= CONTRAST:
            return mixed
    return towards


def contrast(one: str, other: str) -> float:
    """WCAG's contrast ratio, 1 to 21."""
    darker, lighter = sorted((_luminance(one), _luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


def _luminance(colour: str) -> float:
    """Relative luminance as WCAG defines it."""
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in _parts(colour)]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _mixed(one: str, other: str, share: float) -> str:
    mixed = [a + (b - a) * share for a, b in zip(_parts(one), _parts(other), strict=True)]
    return "#" + "".join(f"{round(part * 255):02x}" for part in mixed)


def _parts(colour: str) -> list[float]:
    return [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
