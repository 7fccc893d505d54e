"""The page on the architecture: every room is on it, in order, and every file that it names is there."""

import re
from pathlib import Path

from test_rooms import SPINE

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")


def test_every_room_is_told_in_the_order_of_the_spine():
    told = re.findall(r"^\| `([\w/.]+)` \| ", PAGE, re.MULTILINE)
    assert [name.removesuffix(".py").replace("/", ".") for name in told] == SPINE


def test_every_file_that_is_named_is_there():
    named = re.findall(r"`([\w/]+(?:/|\.\w+))`", PAGE)
    assert len(named) > 40
    missing = {name for name in named if "/" in name and not (ROOT / name).exists()}
    assert not missing
