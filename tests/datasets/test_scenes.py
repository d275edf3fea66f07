import io

import pytest
from PIL import Image

from consilience.datasets.scenes import (
    COLOURS,
    KINDS,
    LEVELS,
    SIDE,
    SIZES,
    Scene,
    Thing,
    draw_scene,
    open_scenes,
    paint,
    paint_pixels,
    read_program,
    write_caption,
    write_program,
)
from consilience.errors import InvalidRequest

SCENES = [draw_scene(0, index) for index in range(200)]


def test_the_same_seed_gives_the_same_bytes_on_every_machine_and_in_every_year() -> None:
    assert open_scenes(64).digest == "6cb8998e9003cd67e1fbb4a82c8e92e98d22800e6b3ec5887f9199e0c01425d9"


def test_fewer_scenes_are_the_first_of_more_and_another_seed_gives_others() -> None:
    few, many, others = open_scenes(4), open_scenes(50), open_scenes(4, seed=1)
    for view in few.views:
        assert many.view(view.name).read(0, 4) == view.read(0, 4)
        assert others.view(view.name).read(0, 4) != view.read(0, 4)
    assert many.ids[:4] == few.ids


def test_a_program_is_read_back_as_the_scene_that_it_draws() -> None:
    assert all(read_program(write_program(scene)) == scene for scene in SCENES)


@pytest.mark.parametrize(
    "program",
    [
        "",
        "circle(x=1, y=2, size=8, color='red')",
        "canvas(128, 128, 'white')\nimport os",
        "canvas(128, 128, 'white')\ncircle(x=__import__('os'), y=2, size=8, color='red')",
        "canvas(128, 128, 'white')\nellipse(x=1, y=2, size=8, color='red')",
        "canvas(128, 128, 'mauve')",
        "canvas(",
    ],
)
def test_any_other_program_is_refused_and_not_run(program: str) -> None:
    with pytest.raises(InvalidRequest, match="program"):
        read_program(program)


def test_the_picture_is_a_png_that_pillow_reads_as_it_was_painted() -> None:
    for scene in SCENES[:20]:
        image = Image.open(io.BytesIO(paint(scene)))
        assert (image.format, image.size) == ("PNG", (SIDE, SIDE))
        pixels = paint_pixels(scene)
        colours = list(COLOURS.values())
        assert list(image.convert("RGB").get_flattened_data()) == [colours[place] for place in pixels.ravel()]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", SIZES.values())
def test_a_thing_is_painted_inside_its_size_and_up_to_it(kind: str, size: int) -> None:
    pixels = paint_pixels(Scene("white", (Thing(kind, 64, 64, size, "red"),)))
    painted = pixels != 0
    rows, columns = painted.any(axis=1).nonzero()[0], painted.any(axis=0).nonzero()[0]
    for places in (rows, columns):
        assert 64 - size <= places[0] <= 64 - 0.5 * size
        assert 64 + 0.5 * size <= places[-1] <= 64 + size
    assert list(COLOURS).index("red") in pixels


def test_things_do_not_overlap_and_stay_inside_the_picture() -> None:
    for scene in SCENES:
        for place, thing in enumerate(scene.things):
            assert thing.size <= min(thing.x, thing.y)
            assert max(thing.x, thing.y) < SIDE - thing.size
            for other in scene.things[:place]:
                distance = max(abs(thing.x - other.x), abs(thing.y - other.y))
                assert distance >= 0.9 * (thing.size + other.size)


def test_each_caption_says_more_than_the_one_before() -> None:
    scene = Scene("navy", (Thing("star", 20, 20, 8, "orange"), Thing("house", 105, 64, 19, "red")))
    assert [write_caption(scene, level) for level in LEVELS] == [
        "A picture of a house.",
        "A picture of a house and a star.",
        "A picture of a red house and an orange star on a navy background.",
        "A picture of a large red house at the middle right and a small orange star at the top left on a navy background.",
        (
            "A picture of a large red house at the middle right (105 pixels from the left, 64 from the top, reaching 19) and "
            "a small orange star at the top left (20 pixels from the left, 20 from the top, reaching 8) on a navy background. "
            "The red house is below and right of the orange star."
        ),
    ]
    for scene in SCENES:
        words = [len(write_caption(scene, level).split()) for level in LEVELS]
        assert words == sorted(words)


def test_every_kind_colour_and_size_is_drawn() -> None:
    things = [thing for scene in SCENES for thing in scene.things]
    assert {thing.kind for thing in things} == set(KINDS)
    assert {thing.size for thing in things} == set(SIZES.values())
    assert len({scene.background for scene in SCENES}) == 5
