"""The page of `sgdd play --web` in a real headless Chromium."""

import json
import shutil
from pathlib import Path

import pytest
from playwright.sync_api import expect, sync_playwright
from test_play_web import serving
from tiny_sgdd import build

from sgdd_cli.decoding_options import Writing
from sgdd_engine.diffusion.config import SamplingConfig
from sgdd_engine.generation.config import GenerationConfig

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="needs a Chromium of the system"),
    # Playwright's event loop, and a socket of its driver, are closed when its process ends.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
SAMPLING = SamplingConfig(cfg=1.5, steps=8)
TOKEN = "a-token-of-enough-length"
# What would run if a text became markup.
MARKUP = "<img src=x onerror=\"document.title='run'\"><script>document.title='run'</script>"


@pytest.fixture(scope="module")
def writing(tiny_encoder, sentences):
    model = build(tiny_encoder, sentences[:6], steps=20)
    return Writing(model, Path("tiny"), SAMPLING, GenerationConfig(), watch=False)


@pytest.fixture(scope="module")
def url(writing):
    with serving(writing) as address:
        yield address


@pytest.fixture(scope="module")
def browser():
    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield found
        found.close()


@pytest.fixture
def open_page(browser):
    """Opens pages, and fails where one logs an error or asks another server for something."""
    contexts, faults = [], []

    def opened(address, **options):
        context = browser.new_context(reduced_motion="reduce", **options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(60_000)
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on(
            "request",
            lambda asked: (
                asked.url.startswith((address.partition("#")[0], "data:")) or faults.append(asked.url)
            ),
        )
        page.goto(address)
        return page

    yield opened
    for context in contexts:
        context.close()
    assert faults == []


def status(page, text):
    expect(page.locator("#status")).to_contain_text(text, timeout=60_000)


def shown(page):
    return [piece.replace(" ", "") for piece in page.locator("#canvas .piece").all_inner_texts()]


def test_by_keyboard_alone_a_sentence_is_written_and_looked_at_step_by_step(
    open_page, url, writing, sentences
):
    page = open_page(url + "/")
    page.wait_for_selector("body[data-ready]")
    page.focus("#text")
    page.keyboard.press("ControlOrMeta+A")
    page.keyboard.type(sentences[0])
    page.keyboard.press("Enter")
    (expected,) = writing.model.reconstruct(sentences[0], sampling=SAMPLING, explain=True)
    status(page, f"Written: {expected.text}")
    assert shown(page) == [token.piece.removeprefix("##") for token in expected.details]
    tones = page.locator("#canvas .piece").evaluate_all("found => found.map(one => one.classList[1])")
    assert tones == [
        "sure" if token.probability >= 0.9 else "fair" if token.probability >= 0.5 else "unsure"
        for token in expected.details
    ]
    page.focus("#frame")
    page.keyboard.press("Home")
    assert page.locator("#canvas .mask").count() == len(expected.tokens)
    page.keyboard.press("ArrowRight")
    assert len(shown(page)) == sum(token.step <= 1 for token in expected.details)
    # A slider that is moved asks again.
    page.focus("#steps")
    page.keyboard.press("Home")
    page.keyboard.press("ArrowRight")
    expect(page.locator("#frame-out")).to_have_text("2 of 2", timeout=60_000)
    assert page.locator("#steps").get_attribute("aria-valuetext") == "2"
    page.focus("#tab-write")
    page.keyboard.press("ArrowRight")
    assert page.locator("#tab-blend").get_attribute("aria-selected") == "true"
    assert page.evaluate("() => document.activeElement.id") == "tab-blend"
    page.keyboard.press("Tab")
    assert page.evaluate("() => document.activeElement.id") == "first"


def test_candidates_are_listed_meanings_blended_and_blanks_filled(open_page, url, writing, sentences):
    model, two = writing.model, sentences[:2]
    page = open_page(url + "/")
    page.wait_for_selector("body[data-ready]")
    page.fill("#text", two[0])
    page.locator("#candidates").fill("4")
    page.click("#write .main")
    (expected,) = model.reconstruct(two[0], sampling=SAMPLING, candidates=4)
    status(page, expected.text)
    rows = page.locator("#texts li").all_inner_texts()
    listed = [(expected.text, expected.cosine), *expected.alternatives]
    assert [row.split("\n\n") for row in rows] == [[f"{cosine:.2f}", text] for text, cosine in listed]
    page.locator("#candidates").fill("1")
    page.click("#tab-blend")
    page.fill("#first", two[0])
    page.fill("#second", two[1])
    page.click("#blend .main")
    status(page, model.blend(two, [0.5, 0.5], sampling=SAMPLING)[0].text)
    page.click("#walk")
    status(page, "5 texts.")
    assert page.locator("#texts li").count() == 5
    page.click("#tab-fill")
    page.fill("#blanks", "The baker [MASK:2] a letter.")
    page.fill("#meaning", "")
    page.click("#fill .main")
    sampling = SamplingConfig(cfg=1.0, steps=8)
    (filled,) = model.fill("The baker [MASK:2] a letter.", sampling=sampling, explain=True)
    status(page, filled.text)
    # Step by step too: at first only the blank is open, and what was given is there.
    assert shown(page) == [token.piece.removeprefix("##") for token in filled.details]
    page.focus("#frame")
    page.keyboard.press("Home")
    assert page.locator("#canvas .mask").count() == 2
    assert len(shown(page)) == len(filled.tokens) - 2


def test_a_file_is_read_where_it_is_chosen_or_dropped(open_page, url, writing, sentences):
    vectors = writing.model.encode(sentences[:2])
    page = open_page(url + "/")
    page.wait_for_selector("body[data-ready]")
    content = json.dumps(vectors.tolist())
    page.set_input_files(
        "#file", {"name": "two.json", "mimeType": "application/json", "buffer": content.encode()}
    )
    status(page, "2 texts.")
    page.evaluate(
        """(content) => {
            const data = new DataTransfer();
            data.items.add(new File([content], "one.json"));
            document.body.dispatchEvent(new DragEvent("drop", { dataTransfer: data, bubbles: true, cancelable: true }));
        }""",
        json.dumps(vectors[0].tolist()),
    )
    status(page, writing.model.generate(vectors[0], sampling=SAMPLING)[0].text)
    page.set_input_files("#file", {"name": "x.pkl", "mimeType": "", "buffer": b"\x80"})
    status(page, "is not read here")


def test_markup_in_a_text_stays_text(open_page, url):
    page = open_page(url + "/")
    page.wait_for_selector("body[data-ready]")
    content = f"{MARKUP}\n{MARKUP}"
    page.set_input_files(
        "#file", {"name": f"{MARKUP}.txt", "mimeType": "text/plain", "buffer": content.encode()}
    )
    status(page, "2 texts.")
    assert MARKUP in page.locator("#texts li").first.inner_text()
    assert page.title() != "run"
    assert page.locator("main img, main script").count() == 0


def test_it_fits_a_phone_and_a_dark_screen_and_asks_for_the_token(open_page, writing):
    with serving(writing, names=None, token=TOKEN) as url:
        page = open_page(f"{url}/", viewport={"width": 375, "height": 700}, color_scheme="dark")
        status(page, "token")
        page.fill("#token", TOKEN)
        page.keyboard.press("Enter")
        page.wait_for_selector("body[data-ready]")
        page.fill("#text", "word " * 8 + "w" * 120)
        page.click("#write .main")
        status(page, "Written")
        for tab in ("write", "blend", "fill"):
            page.click(f"#tab-{tab}")
            assert page.evaluate("() => document.documentElement.scrollWidth") <= 375
        light = "rgb(255, 255, 255)"
        assert page.evaluate("() => getComputedStyle(document.body).backgroundColor") != light
        page.goto(f"{url}/docs")
        assert page.evaluate("() => document.documentElement.scrollWidth") <= 375
        page.goto(f"{url}/#token={TOKEN}")
        page.wait_for_selector("body[data-ready]")
        assert page.url == f"{url}/"
