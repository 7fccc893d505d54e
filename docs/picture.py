"""Take the picture of a report that the README shows; needs chromium, and playwright of prunus[test]."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import sync_playwright

PICTURE = Path(__file__).parent / "report.png"
OPTIONS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]


def take(page_file: Path) -> None:
    """Open the page, ask why two layers shrink together, and save what is seen."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=OPTIONS)
        page = browser.new_page(viewport={"width": 1400, "height": 900})
        page.goto(page_file.as_uri())
        page.wait_for_function("window.prunusReady !== undefined")
        for box, layer in (("#a", "layer1.0.conv3"), ("#b", "layer1.2.conv3")):
            page.fill(box, layer)
            page.press(box, "Enter")
        page.screenshot(path=PICTURE)
        browser.close()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "report.html"
        prunus = Path(sys.executable).parent / "prunus"
        subprocess.run([prunus, "report", "torchvision:resnet50", "-o", file], check=True)
        take(file)
