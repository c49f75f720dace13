"""The page in a real browser: nothing fails to load, tables sort, the slider slides, at any width and in dark mode."""

import base64
import shutil

import numpy as np
import pytest
from documents import images, make_document, make_extras, make_input
from PIL import Image

from balancegan.report.filmstrip import draw_frames, draw_strips
from balancegan.report.pictures import draw_pictures
from balancegan.report.render import render_html

webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
CHROMEDRIVER = shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(
    not (CHROMIUM and CHROMEDRIVER), reason="chromium or chromedriver is not in PATH (Debian: chromium-driver)"
)

NAMES = ("<script>alert(1)</script>", "</title><img src=x onerror=alert(2)>", "W" * 90, "ant")


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    # A profile of its own: another browser, or another run of the tests, may be open.
    profile = tmp_path_factory.mktemp("profile")
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", f"--user-data-dir={profile}"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(CHROMEDRIVER))  # a given path: nothing is downloaded
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    frames = []
    for step in (0, 100, 200, 300, 400):
        path = folder / f"step-{step:06d}.png"
        Image.fromarray(np.concatenate(list(images(9, seed=step)), axis=2).transpose(1, 2, 0)).save(path)
        frames.append((step, path))
    document, inp = make_document(NAMES), make_input(NAMES)
    for row, value in zip(document["classes"], (9.0, None, 10.0, 1.0), strict=True):
        row["fid"] = value
    command = f"balancegan compare {'a-long/path_to' * 9} --methods sgbgan,edm"
    document["next"].append(f"Try another method: `{command}`.")
    document["findings"].insert(0, {"level": "warning", "class": None, "text": f"Use `{command}`."})
    extras = make_extras(len(NAMES), frames)
    strips = draw_strips(extras.interpolation, NAMES)
    path = folder / "report.html"
    path.write_text(
        render_html(document, draw_pictures(inp, document), strips=strips, frames=draw_frames(extras.frames)), "utf-8"
    )
    return path.as_uri()


@pytest.fixture
def opened(browser, page):
    size(browser, 1200)
    browser.get(page)
    return browser


def size(browser, width):
    metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)


def media(browser, kind="", scheme="light"):
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": kind, "features": features})


def column(browser, table, title):
    """The texts of a column, its head, and the last row's name."""
    return browser.execute_script(
        """const table = document.querySelectorAll("table.sort")[arguments[0]];
        const head = [...table.tHead.rows[0].cells].find((th) => th.textContent.trim() === arguments[1]);
        return {cells: [...table.tBodies[0].rows].map((r) => r.cells[head.cellIndex].textContent.trim()), head,
                sort: head.getAttribute("aria-sort"), last: table.rows[table.rows.length - 1].cells[0].textContent}""",
        table,
        title,
    )


def distances(browser):
    return browser.execute_script(
        """return [...document.querySelectorAll("table.sort")]
        .findIndex((table) => table.caption.textContent.includes("Distance to real"))"""
    )


def test_nothing_fails(opened):
    from selenium.common.exceptions import NoAlertPresentException

    assert [entry for entry in opened.get_log("browser") if entry["level"] != "DEBUG"] == []
    with pytest.raises(NoAlertPresentException):
        _ = opened.switch_to.alert
    assert opened.title.endswith("quality report")
    assert NAMES[0] in opened.find_element("css selector", ".findings").text


def test_every_image_is_loaded_and_described(opened):
    found = opened.execute_script(
        "return [...document.images].map((i) => [i.complete && i.naturalWidth > 0, i.getAttribute('alt')])"
    )
    assert len(found) > 30 and all(loaded and alt and alt.strip() for loaded, alt in found)


@pytest.mark.parametrize("width", [320, 390, 760, 1200, 1920])
def test_nothing_sticks_out(opened, width):
    size(opened, width)
    assert opened.execute_script("return document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("width", [390, 1200])
def test_nothing_is_clipped(opened, width):
    """Also not in what is folded; only confusion matrices may scroll."""
    size(opened, width)
    clipped = opened.execute_script(
        """document.querySelectorAll("details").forEach((part) => { part.open = true; });
        return [...document.querySelectorAll(".panel, .card, .findings li, .next li, td, figure, .verdict")]
        .filter((part) => part.scrollWidth > part.clientWidth + 1 && part.clientWidth && !part.closest(".scroll"))
        .map((part) => part.textContent.trim().slice(0, 80))"""
    )
    assert clipped == []


def test_a_click_sorts_by_number_with_the_summary_last(opened):
    table = distances(opened)
    found = column(opened, table, "FID")
    assert found["sort"] is None
    button = found["head"].find_element("tag name", "button")
    button.click()
    assert column(opened, table, "FID")["cells"] == ["1.00", "9.00", "10.0", "–"]
    assert column(opened, table, "FID")["sort"] == "ascending"
    button.click()
    found = column(opened, table, "FID")
    assert found["cells"] == ["10.0", "9.00", "1.00", "–"] and found["sort"] == "descending"
    assert found["last"].strip().startswith("All classes together")
    assert opened.execute_script("return document.querySelector('#status').textContent") == "Sorted by FID, descending"


def test_the_keyboard_sorts_too(opened):
    from selenium.webdriver.common.keys import Keys

    table = distances(opened)
    column(opened, table, "FID")["head"].find_element("tag name", "button").click()
    button = column(opened, table, "Class")["head"].find_element("tag name", "button")
    opened.execute_script("arguments[0].focus()", button)
    opened.switch_to.active_element.send_keys(Keys.ENTER)
    found = column(opened, table, "Class")
    assert found["sort"] == "ascending" and found["cells"][-1].startswith("WWW")
    assert column(opened, table, "FID")["sort"] is None
    opened.switch_to.active_element.send_keys(Keys.SPACE)
    assert column(opened, table, "Class")["sort"] == "descending"


def test_the_slider_shows_one_frame_at_a_time(opened):
    from selenium.webdriver.common.keys import Keys

    slider = opened.find_element("css selector", ".slider input")

    def shown():
        return [
            f.get_attribute("data-label") for f in opened.find_elements("css selector", ".frame") if f.is_displayed()
        ]

    assert shown() == ["step 400"]
    slider.send_keys(Keys.ARROW_LEFT)
    assert shown() == ["step 300"] and slider.get_attribute("aria-valuetext") == "step 300"
    slider.send_keys(Keys.HOME)
    assert shown() == ["step 0"] and opened.find_element("css selector", ".slider output").text == "step 0"


def test_without_the_script_three_frames_and_plain_tables(browser, page):
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        browser.get(page)
        shown = [f for f in browser.find_elements("css selector", ".frame") if f.is_displayed()]
        assert [f.find_element("tag name", "figcaption").text for f in shown] == ["step 0", "step 200", "step 400"]
        assert not browser.find_element("css selector", ".slider").is_displayed()
        assert browser.find_elements("css selector", "th button") == []
    finally:
        browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})


def test_dark_is_dark_and_paper_is_white(opened):
    colours = "const s = getComputedStyle(document.body); return [s.backgroundColor, s.color]"

    def brightness(text):
        return sum(int(v) for v in text[text.index("(") + 1 : -1].split(",")[:3])

    try:
        media(opened, scheme="dark")
        back, ink = map(brightness, opened.execute_script(colours))
        assert back < 150 and ink > 600
        media(opened, "print", scheme="dark")
        assert brightness(opened.execute_script(colours)[0]) == 765
        shown = [f for f in opened.find_elements("css selector", ".frame") if f.is_displayed()]
        assert len(shown) == 3 and not opened.find_element("css selector", ".slider").is_displayed()
        paper = opened.execute_cdp_cmd("Page.printToPDF", {"printBackground": True})["data"]
        assert base64.b64decode(paper).startswith(b"%PDF-")
    finally:
        media(opened)
