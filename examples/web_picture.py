"""The picture of `sgdd play --web` in README.md: asks a real page in a headless Chromium and photographs it.

    python examples/web_picture.py --out .github/play_web.png

Needs `pip install "sgdd[web]" playwright` and a Chromium of the system.
"""

import argparse
import re
import shutil
import subprocess
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

COMMAND = (
    "-m",
    "sgdd_cli",
    "play",
    "--web",
    "--checkpoint",
    "mini",
    "--port",
    "0",
    "--no-open",
    "--candidates",
    "4",
)
SENTENCE = "Nausea seized him, and black mists swam before his eyes."
# A picture is wide enough for three columns of sliders, and no wider than README.md shows it.
WIDTH, HEIGHT = 920, 600


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(".github/play_web.png"))
    parser.add_argument("--chromium", default=shutil.which("chromium") or shutil.which("google-chrome"))
    parser.add_argument("--dark", action="store_true", help="In dark mode.")
    parser.add_argument("--width", type=int, default=WIDTH)
    options = parser.parse_args()
    if options.chromium is None:
        sys.exit("No Chromium was found; name one with --chromium.")
    server = subprocess.Popen([sys.executable, *COMMAND], stderr=subprocess.PIPE, text=True)
    try:
        found = None
        while found is None:
            line = server.stderr.readline()
            if not line:
                sys.exit("The server did not start.")
            found = re.search(r"Page: (\S+)", line)
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=options.chromium, args=["--no-sandbox"])
            page = browser.new_page(
                viewport={"width": options.width, "height": HEIGHT},
                color_scheme="dark" if options.dark else "light",
            )
            page.goto(found[1])
            page.wait_for_selector("body[data-ready]")
            page.fill("#text", SENTENCE)
            page.click("#write .main")
            page.wait_for_selector("#best:not([hidden])", timeout=120_000)
            # Halfway, where some words are written and some are not.
            page.locator("#frame").evaluate(
                "slider => { slider.value = 8; slider.dispatchEvent(new Event('input')); }"
            )
            page.wait_for_timeout(500)  # the last words arrive with a movement
            page.mouse.move(0, 0)
            page.screenshot(path=options.out, full_page=True)
            browser.close()
    finally:
        server.terminate()
        server.wait()
    print(f"{options.out}: {options.out.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
