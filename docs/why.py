"""Run the commands that docs/why.md shows, and put what they print below them."""

from __future__ import annotations

from readme import BLOCK, ROOT, rewrite

PAGE = ROOT / "docs" / "why.md"

if __name__ == "__main__":
    PAGE.write_text(BLOCK.sub(rewrite, PAGE.read_text(encoding="utf-8")), encoding="utf-8")
