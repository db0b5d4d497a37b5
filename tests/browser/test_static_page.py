"""The self-contained page, opened from the disk: no server, no second file."""

from __future__ import annotations

import pytest
from support.browser import picture, settled_screenshot, wait_for
from support.viewer_scenes import HEIGHT, LOOK, WIDTH, around, ball

from sparse3d.metrics.image import psnr
from sparse3d.render import Look, drawer
from sparse3d.types import Gaussians
from sparse3d.viewer.static_page import write_html

pytestmark = pytest.mark.browser


def drawn(gaussians, camera, look=LOOK):
    """Our own picture."""
    return drawer(gaussians, look)(camera).image[0].clamp(0, 1)


def open_page(page, path):
    """Opens a page without its panel; nothing else may be asked for."""
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(f"{path.as_uri()}?embed")
    wait_for(page, lambda: page.evaluate("document.body.dataset.ready"), "the page is ready")
    assert page.evaluate("document.body.dataset.ready") == "yes", page.evaluate(
        "document.getElementById('said').textContent"
    )
    assert all(url.startswith(("file:", "blob:", "data:")) for url in asked), asked


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
def test_draws_all_spherical_harmonics(degree, page, tmp_path, keep):
    """As our own renderer at two cameras. Without its highest degree it is clearly not: that one counts."""
    gaussians, posed = ball(3000, degree), around()
    write_html(gaussians, posed, LOOK, tmp_path / "ball.html")
    open_page(page, tmp_path / "ball.html")
    less = Gaussians(*gaussians.values()[:4], gaussians.sh[:, : max(1, degree**2)])  # without the highest degree
    for index in (0, 2):
        page.evaluate(f"document.getElementById('view').value = {index}; document.getElementById('view').onchange()")
        page.wait_for_timeout(1200)  # the flight
        shown = settled_screenshot(page)
        camera = posed.views[index].cameras.scaled_to(HEIGHT, WIDTH)
        keep(f"{index}", shown)
        found = psnr(shown, drawn(gaussians, camera))
        assert found > 35  # 47 to 54 measured
        assert degree == 0 or psnr(shown, drawn(less, camera)) < found - 12


def test_colour_can_be_plain(page, tmp_path):
    gaussians, posed = ball(2000, 2), around()
    write_html(gaussians, posed, LOOK, tmp_path / "ball.html")
    open_page(page, tmp_path / "ball.html")
    page.evaluate("const sh = document.getElementById('sh'); sh.value = 0; sh.onchange()")
    shown = settled_screenshot(page)
    plain = Gaussians(*gaussians.values()[:4], gaussians.sh[:, :1])
    assert psnr(shown, drawn(plain, posed.views[0].cameras.scaled_to(HEIGHT, WIDTH))) > 35


def test_draws_antialiased_scenes_so(page, tmp_path):
    """Tiny Gaussians, which the dilation by 0.3 pixels makes much brighter unless their opacity makes up for it."""
    gaussians, posed = ball(3000, 0), around()
    tiny = Gaussians(
        gaussians.means, gaussians.quats, gaussians.log_scales - 3.5, gaussians.logit_opacities, gaussians.sh
    )
    camera = posed.views[0].cameras.scaled_to(HEIGHT, WIDTH)
    look = Look(LOOK.background, True, LOOK.near_plane)
    write_html(tiny, posed, look, tmp_path / "tiny.html")
    open_page(page, tmp_path / "tiny.html")
    shown = settled_screenshot(page)
    found = psnr(shown, drawn(tiny, camera, look))
    assert found > 35
    assert psnr(shown, drawn(tiny, camera)) < found - 12


def test_drag_turns_the_camera(page, tmp_path, keep):
    write_html(ball(2000, 1), around(), LOOK, tmp_path / "ball.html", title="</script><b>a & b")
    page.goto((tmp_path / "ball.html").as_uri())
    wait_for(page, lambda: page.evaluate("document.body.dataset.ready"), "the page is ready")
    assert page.title() == "</script><b>a & b" == page.inner_text("#title")
    assert page.inner_text("#count") == "2,000 Gaussians"
    assert page.locator("#view option").all_inner_texts() == [
        "view_0.jpg",
        "view_1.jpg",
        "view_2.jpg",
        "view_3.jpg (drawn)",
    ]
    before = settled_screenshot(page)
    page.mouse.move(150, 160)
    page.mouse.down()
    page.mouse.move(260, 170, steps=4)
    page.mouse.up()
    after = settled_screenshot(page)
    keep("panel", after)
    assert psnr(before, after) < 30


def test_says_why_nothing_can_be_drawn(browser, tmp_path):
    """Without WebGL2 the page tells so instead of staying empty."""
    write_html(ball(50, 0), around(), LOOK, tmp_path / "ball.html")
    page = browser.new_page()
    page.add_init_script("HTMLCanvasElement.prototype.getContext = () => null")
    page.goto((tmp_path / "ball.html").as_uri())
    wait_for(page, lambda: page.evaluate("document.body.dataset.ready") == "failed", "the page gave up")
    assert "could not be drawn" in page.inner_text("#said")
    assert picture(page.screenshot()).std() > 0
    page.close()
