"""What is drawn of a face before a line of it: the numbers of who it is, and of how this image shows it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

Colour = NDArray[np.floating[Any]]

_SKINS = np.array(
    [
        [244, 214, 194],
        [232, 190, 160],
        [216, 168, 132],
        [190, 138, 100],
        [158, 108, 76],
        [124, 82, 58],
        [92, 62, 46],
    ],
    np.float32,
)
_HAIRS = np.array(
    [
        [24, 20, 18],
        [52, 36, 26],
        [92, 60, 36],
        [138, 96, 54],
        [196, 158, 100],
        [150, 70, 36],
        [150, 146, 142],
    ],
    np.float32,
)
_IRISES = np.array([[70, 44, 26], [104, 72, 40], [96, 110, 70], [84, 116, 140], [118, 132, 142]], np.float32)


class Draws:
    """Named draws read better than a row of numbers."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng

    def between(self, low: float, high: float) -> float:
        """Return a number of an interval, uniformly drawn."""
        return float(self.rng.uniform(low, high))

    def normal(self, sigma: float, mean: float = 0.0) -> float:
        """Return a normal number, at most 2.5 sigma from the mean."""
        return float(np.clip(self.rng.normal(mean, sigma), mean - 2.5 * sigma, mean + 2.5 * sigma))

    def chance(self, probability: float) -> bool:
        """Return true with a probability."""
        return bool(self.rng.random() < probability)

    def blend(self, palette: Colour) -> Colour:
        """Return a colour between two neighbours of a palette."""
        place = self.rng.uniform(0, len(palette) - 1)
        index = int(place)
        part = np.float32(place - index)
        colour: Colour = palette[index] * (1 - part) + palette[min(index + 1, len(palette) - 1)] * part
        return colour


class Traits:
    """The numbers of one image of one person; lengths count in pixels of 112 px.

    Args:
        who: Draws of the identity: bones, skin, hair, features.
        how: Draws of the variation: pose, light, expression.
    """

    def __init__(self, who: Draws, how: Draws) -> None:
        self._draw_identity(who)
        self._draw_variation(how)

    def _draw_identity(self, who: Draws) -> None:
        self.skin = who.blend(_SKINS) * np.float32(who.between(0.93, 1.05))
        self.hair = who.blend(_HAIRS) * np.float32(who.between(0.85, 1.15))
        self.iris = _IRISES[0] if self.skin[0] < 170 else who.blend(_IRISES)
        if self.skin[0] < 150:
            self.hair = self.hair * np.float32(0.35) + 8
        self.cheek_w, self.jaw_w = 42 + who.normal(2.6), 38 + who.normal(2.6)
        self.chin_y, self.chin_w = 67 + who.normal(3.0), 19 + who.normal(3.0)
        self.hairline, self.parting = -33 + who.normal(5.0), who.between(-20, 20)
        self.hair_style = ("short", "long", "bald", "fringe", "receding", "curly")[
            int(who.rng.choice(6, p=[0.30, 0.28, 0.07, 0.13, 0.09, 0.13]))
        ]
        self.eye_x, self.eye_y = 17.6 + who.normal(0.9), who.normal(0.8)
        self.eye_w, self.eye_h, self.eye_tilt = (
            7.4 + who.normal(0.7),
            3.3 + who.normal(0.55),
            who.normal(0.09),
        )
        self.lid_gap, self.lid_dark = 2.6 + who.normal(0.7), who.between(0.15, 0.5)
        self.brow_y, self.brow_t = -10.2 + who.normal(1.4), 1.5 + who.between(0.0, 1.9)
        self.brow_arch, self.brow_w = who.between(0.2, 3.4), 10.0 + who.normal(1.2)
        self.brow_tilt, self.brow_dark = who.normal(0.12), who.between(0.45, 0.95)
        self.nose_w, self.nose_y = 6.6 + who.normal(1.2), 22 + who.normal(1.6)
        self.bridge_w, self.nose_h = 3.6 + who.normal(0.6), who.between(0.7, 1.3)
        self.mouth_y, self.mouth_w = 40.6 + who.normal(1.5), 13.6 + who.normal(1.5)
        self.upper_lip, self.lower_lip = 2.3 + who.normal(0.7), 3.4 + who.normal(0.8)
        self.bow = who.between(0.2, 1.2)
        self.lip = self.skin * np.array([0.86, 0.56, 0.55], np.float32) + np.array(
            [who.between(0, 30), 4, 6], np.float32
        )
        beard = who.rng.random()
        self.beard = 0.0 if self.hair_style == "long" or beard < 0.6 else who.between(0.15, 0.9)
        self.moustache_only = beard > 0.92
        self.blush, self.bags = who.between(0.0, 0.16), who.between(0.0, 0.22)
        self.folds, self.ears = who.between(0.02, 0.28), who.between(0.7, 1.3)
        self.glasses = who.chance(0.22)
        self.frame, self.lens_w, self.lens_h = who.between(10, 90), 13 + who.normal(1.0), 9 + who.normal(1.6)
        self.freckles = who.between(0.3, 1.0) if who.chance(0.2) else 0.0
        self.spots = [
            (who.normal(16), 24 + who.normal(14), who.between(0.6, 1.3))
            for _ in range(int(who.between(0, 2.6)))
        ]
        self.skin_seed = int(who.rng.integers(1 << 31))

    def _draw_variation(self, how: Draws) -> None:
        self.yaw, self.pitch, self.roll = how.normal(0.21), how.normal(0.10), how.normal(0.035)
        self.zoom, self.shift = 1 + how.normal(0.022), (how.normal(0.9), how.normal(0.9))
        self.smile, self.open = max(0.0, how.normal(0.5, 0.25)), max(0.0, how.normal(0.5, -0.15))
        self.lift, self.squint = how.normal(0.9), how.between(0.72, 1.12) - 0.1 * self.smile
        self.gaze = (how.normal(0.9) - 2.2 * self.yaw, how.normal(0.4))
        angle, height = how.between(-1.2, 1.2), how.between(-0.9, 0.15)
        self.light = np.array([math.sin(angle), height, math.cos(angle) * 0.9 + 0.35], np.float32)
        self.light /= np.linalg.norm(self.light)
        self.ambient = how.between(0.42, 0.78)
