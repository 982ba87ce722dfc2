"""accent by itself."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from veilsupport.web import accent


@given(st.from_regex(r"#[0-9a-f]{6}", fullmatch=True))
def test_whatever_the_colour_it_can_be_read(colour: str) -> None:
    for towards, back, text in (
        ("#000000", accent.LIGHT_BACK, accent.LIGHT_TEXT),
        ("#ffffff", accent.DARK_BACK, accent.DARK_TEXT),
    ):
        fitted = accent.fitted(colour, towards, back)
        assert accent.contrast(fitted, back) >= accent.CONTRAST
        assert accent.contrast(fitted, text) >= accent.CONTRAST


def test_a_colour_that_can_be_read_stays_and_contrast_is_as_wcag_says() -> None:
    assert accent.fitted("#14614f", "#000000", accent.LIGHT_BACK) == "#14614f"
    assert accent.contrast("#000000", "#ffffff") == pytest.approx(21)
    assert accent.contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)


def test_the_accent_knows_the_stylesheets_own_backgrounds() -> None:
    css = (Path(__file__).parent.parent / "static" / "style.css").read_text()
    assert f"--mine: {accent.LIGHT_BACK}" in css
    assert f"--mine: {accent.DARK_BACK}" in css
    assert f"--on-main: {accent.DARK_TEXT}" in css
