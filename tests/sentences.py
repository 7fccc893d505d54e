"""What prunus says, compared with files in the folders ``snapshots``; ``make snapshots`` writes them anew."""

import re
from pathlib import Path

TITLE = re.compile(r"^=== (.+)\n", re.MULTILINE)


def stable(text: str) -> str:
    """Without line numbers and folders, which move with every version, and the width of columns."""
    text = re.sub(r"[\w/]+/(test_\w+\.py)", r"\1", text)
    text = re.sub(r"(\.(?:py|rules)):\d+", r"\1:*", text)
    return re.sub(r"(?<=\S) {2,}", "  ", text).strip("\n")


def read(file: Path) -> dict[str, str]:
    """The texts of a file by the names of their tests."""
    _, *pieces = TITLE.split(file.read_text(encoding="utf-8")) if file.exists() else [""]
    return {name: text.strip("\n") for name, text in zip(pieces[::2], pieces[1::2])}


def write(file: Path, texts: dict[str, str]) -> None:
    """Writes what `read` reads."""
    file.parent.mkdir(exist_ok=True)
    file.write_text("\n".join(f"=== {name}\n\n{text}\n" for name, text in texts.items()), encoding="utf-8")
