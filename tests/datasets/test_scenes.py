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
    SceneObject,
    draw_scene,
    open_scenes,
    paint,
    paint_pixels,
    parse_program,
    write_caption,
    write_program,
)
from consilience.errors import InvalidRequest

SCENES = [draw_scene(0, index) for index in range(200)]


def test_a_seed_gives_the_same_bytes_on_every_machine() -> None:
    assert open_scenes(64).digest == "6cb8998e9003cd67e1fbb4a82c8e92e98d22800e6b3ec5887f9199e0c01425d9"


def test_fewer_scenes_are_a_prefix_and_another_seed_gives_others() -> None:
    few, many, others = open_scenes(4), open_scenes(50), open_scenes(4, seed=1)
    for view in few.views:
        assert many.view(view.name).read(0, 4) == view.read(0, 4)
        assert others.view(view.name).read(0, 4) != view.read(0, 4)
    assert many.ids[:4] == few.ids


def test_a_program_is_parsed_back_to_its_scene() -> None:
    assert all(parse_program(write_program(scene)) == scene for scene in SCENES)


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
        parse_program(program)


def test_the_image_is_a_png_that_pillow_decodes_exactly() -> None:
    for scene in SCENES[:20]:
        image = Image.open(io.BytesIO(paint(scene)))
        assert (image.format, image.size) == ("PNG", (SIDE, SIDE))
        pixels = paint_pixels(scene)
        colours = list(COLOURS.values())
        assert list(image.convert("RGB").get_flattened_data()) == [colours[place] for place in pixels.ravel()]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", SIZES.values())
def test_an_object_fills_its_size_and_no_more(kind: str, size: int) -> None:
    pixels = paint_pixels(Scene("white", (SceneObject(kind, 64, 64, size, "red"),)))
    painted = pixels != 0
    rows, columns = painted.any(axis=1).nonzero()[0], painted.any(axis=0).nonzero()[0]
    for places in (rows, columns):
        assert 64 - size <= places[0] <= 64 - 0.5 * size
        assert 64 + 0.5 * size <= places[-1] <= 64 + size
    assert list(COLOURS).index("red") in pixels


def test_objects_do_not_overlap_and_stay_inside_the_image() -> None:
    for scene in SCENES:
        for place, obj in enumerate(scene.objects):
            assert obj.size <= min(obj.x, obj.y)
            assert max(obj.x, obj.y) < SIDE - obj.size
            for other in scene.objects[:place]:
                distance = max(abs(obj.x - other.x), abs(obj.y - other.y))
                assert distance >= 0.9 * (obj.size + other.size)


def test_each_caption_has_more_detail_than_the_one_before() -> None:
    scene = Scene("navy", (SceneObject("star", 20, 20, 8, "orange"), SceneObject("house", 105, 64, 19, "red")))
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
    objects = [obj for scene in SCENES for obj in scene.objects]
    assert {obj.kind for obj in objects} == set(KINDS)
    assert {obj.size for obj in objects} == set(SIZES.values())
    assert len({scene.background for scene in SCENES}) == 5
