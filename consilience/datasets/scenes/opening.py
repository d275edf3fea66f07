"""`scenes`: small programs, the pictures that they draw, and captions at five levels of detail.

Three views of one reality, made from a seed without any download, after *A Vision Check-up for Language Models*
(arXiv 2401.01862), which asks language models for programs that draw. The views are `image`, `code` and `caption_1` to
`caption_5`; the captions grow as those of the paper on convergence do (arXiv 2405.07987, section 3): the more they say, the
nearer a language model's space should come to a vision model's.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import cast

from consilience.contract.datasets import ViewKind
from consilience.datasets.scenes.captions import LEVELS, write_caption
from consilience.datasets.scenes.painting import paint
from consilience.datasets.scenes.programs import read_program, write_program
from consilience.datasets.scenes.scene import Scene, draw_scene
from consilience.datasets.views import Items, OpenDataset, View

NAME = "scenes"
N_DEFAULT = 512
#: Making them holds up the API: some 20 s for so many.
N_MAX = 10_000
VIEWS: dict[str, ViewKind] = {"image": "image", "code": "code", **{f"caption_{level}": "text" for level in LEVELS}}


@dataclass(frozen=True)
class SceneView:
    """One view of the scenes of a seed, made when it is read."""

    name: str
    kind: ViewKind
    n: int
    seed: int
    show: Callable[[Scene], str | bytes]

    def read(self, start: int, stop: int) -> Items:
        """As View."""
        return cast("Items", [self.show(draw_scene(self.seed, index)) for index in range(start, min(stop, self.n))])


def open_scenes(n: int = N_DEFAULT, seed: int = 0) -> OpenDataset:
    """The first n scenes of a seed; those of a larger n begin with them."""
    views: list[View] = [
        SceneView("image", "image", n, seed, lambda scene: paint(read_program(write_program(scene)))),
        SceneView("code", "code", n, seed, write_program),
    ]
    views += [SceneView(f"caption_{level}", "text", n, seed, partial(write_caption, level=level)) for level in LEVELS]
    return OpenDataset(NAME, tuple(f"scene-{index:06}" for index in range(n)), tuple(views))
