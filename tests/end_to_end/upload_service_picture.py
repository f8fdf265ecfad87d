"""Make docs/upload_service.png from what `make demo` has built: `python -m tests.end_to_end.upload_service_picture`.

Ana saves photos of one user of the demo's data with that user's own tags, and opens another one.
"""

from pathlib import Path

import polars as pl
from playwright.sync_api import Page

from deploy.local import on_free_ports, serve
from tests.end_to_end.upload_service import chromium, upload_service

DATA = Path("build/demo/data")
USER = "user041"
SAVED = 9
PICTURE = Path("docs/upload_service.png")


def main() -> None:
    """Write the picture."""
    photos = pl.read_parquet(DATA / "manifest.parquet").filter(pl.col("user") == USER).head(SAVED + 1).rows(named=True)
    with (
        serve(on_free_ports(Path("model_repository"), stop_timeout_s=1)) as triton,
        upload_service(triton.grpc_url) as address,
        chromium() as browser,
    ):
        page = browser.new_page(viewport={"width": 1200, "height": 760}, reduced_motion="reduce")
        page.goto(address)
        for photo in photos[:-1]:
            tag(page, photo)
            with page.expect_response("**/save"):
                page.get_by_role("button", name="Save photo").click()
        tag(page, {**photos[-1], "tags": photos[-1]["tags"][:2]})
        page.mouse.move(0, 0)
        page.evaluate("document.activeElement.blur()")
        page.screenshot(path=PICTURE)
    print(f"{PICTURE}: {PICTURE.stat().st_size / 1000:.0f} KB")


def tag(page: Page, photo: dict) -> None:
    """Open the photo and give it its tags."""
    with page.expect_response("**/suggestions"):
        page.get_by_label("Choose a photo").set_input_files(DATA / photo["image"])
    for name in photo["tags"]:
        with page.expect_response("**/suggestions"):
            page.get_by_label("Add a tag of your own").fill(name)
            page.keyboard.press("Enter")


if __name__ == "__main__":
    main()
