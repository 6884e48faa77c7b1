"""One face drawn from numbers.

An identity fixes the bones, the skin, the hair and the features; a variation fixes pose, light, expression
and background. The eyes, the nose and the mouth lie about where the ArcFace template has them.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dsrface.data import draws
from dsrface.data.decode import ImageU8
from dsrface.data.synthetic.traits import Draws, Traits
from dsrface.types import HIGH_SIZE_PX

Grid = NDArray[np.floating[Any]]
Pixels = NDArray[np.floating[Any]]


def draw_face(identity_seed: int, variation_seed: int, *, size_px: int = HIGH_SIZE_PX) -> ImageU8:
    """Return one image of a person who does not exist.

    Args:
        identity_seed: Who it is.
        variation_seed: Which image of that person.
        size_px: Side of the image; the drawing scales with it.

    Returns:
        uint8 [size_px, size_px, 3] RGB; the same seeds give the same bytes.
    """
    who = Draws(draws.generator(identity_seed, 0, 0, "face-identity"))
    how = Draws(draws.generator(identity_seed, 0, variation_seed, "face-variation"))
    image = _camera(_Drawing(who, how, size_px).render(), how)
    return (np.clip(image, 0, 255) + 0.5).astype(np.uint8)


class _Drawing(Traits):
    """One face on a grid of `side` pixels; lengths count in pixels of 112 px, (0, 0) between the eyes."""

    def __init__(self, who: Draws, how: Draws, side: int) -> None:
        self.how = how
        self.soft = HIGH_SIZE_PX / side
        super().__init__(who, how)
        axis = (np.arange(side, dtype=np.float32) + 0.5) * self.soft - 0.5
        px, py = np.meshgrid(axis - 56.0, axis - 51.6)
        self.px, self.py = px, py
        cos, sin = math.cos(self.roll) / self.zoom, math.sin(self.roll) / self.zoom
        x = (px - self.shift[0]) * cos + (py - self.shift[1]) * sin
        y = -(px - self.shift[0]) * sin + (py - self.shift[1]) * cos
        # A turned head: points nearer to the camera than the eyes move with the turn, the others against it.
        bulge = np.maximum(0, 1 - (x / 56) ** 2 - ((y - 18) / 78) ** 2)
        near = 34 * np.sqrt(bulge) - 27
        near += 11 * np.exp(-((x / 8) ** 2) - ((y - 17) / 9) ** 2)
        self.x = (x - math.sin(self.yaw) * near) / math.cos(self.yaw)
        self.y = (y - math.sin(self.pitch) * near) / math.cos(self.pitch)
        self.ax = np.abs(self.x)

    def render(self) -> Pixels:
        image = self._background()
        head, shade = self._head_mask(), self._shade()
        if self.hair_style in {"long", "curly"}:
            self._paint(image, self._hair_back(), self._hair_colour())
        neck = self._inside(np.abs(self.px - 3 * self.yaw) - 27) * self._inside(44 - self.py, 3)
        self._paint(image, neck, self.skin * np.float32(0.55 * self.ambient + 0.2))
        ears = self._ellipse(self.ax - self.cheek_w - 1.5, self.y - 10, 4.2 * self.ears, 9.5 * self.ears)
        self._paint(image, ears, (self.skin * np.float32(0.84))[None, None] * shade[..., None])
        albedo = self._skin()
        face = albedo * shade[..., None]
        self._eyes(face, shade)
        self._mouth(face, shade)
        gloss = np.clip(shade - 1.02, 0, 1)[..., None] ** 1.5 * 160
        image += (face + gloss - image) * head[..., None]
        self._hair_front(image, head)
        if self.glasses:
            self._paint_glasses(image)
        return image

    def _inside(self, distance: Grid, soft: float = 0.0) -> Grid:
        """Return 1 inside, 0 outside, with an edge as wide as a pixel (or as `soft`)."""
        mask: Grid = np.clip(0.5 - distance / max(soft, self.soft), 0, 1)
        return mask

    def _ellipse(self, x: Grid, y: Grid, a: float, b: float, soft: float = 0.0) -> Grid:
        radius: Grid = np.sqrt((x / a) ** 2 + (y / b) ** 2)
        return self._inside((radius - 1) * min(a, b), soft)

    @staticmethod
    def _paint(image: Pixels, mask: Grid, colour: Pixels) -> None:
        # Most marks cover a small part of the image; only the rectangle around them is worth mixing.
        rows, columns = np.flatnonzero(mask.max(1) > 0.004), np.flatnonzero(mask.max(0) > 0.004)
        if len(rows) == 0:
            return
        part = (slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1))
        image[part] += ((colour[part] if colour.ndim == 3 else colour) - image[part]) * mask[part][..., None]

    def _background(self) -> Pixels:
        how = self.how
        first, second = (np.array(how.rng.uniform(25, 225, 3), np.float32) for _ in range(2))
        if how.chance(0.75):  # mostly walls: little colour
            first, second = (
                item.mean() * np.float32(0.8) + item * np.float32(0.2) for item in (first, second)
            )
        turn = how.between(0, 6.3)
        ramp = np.clip((self.px * math.cos(turn) + (self.py - 4) * math.sin(turn)) / 110 + 0.5, 0, 1)
        image = first + (second - first) * ramp[..., None]
        for _ in range(int(how.between(0, 5))):
            colour = np.array(how.rng.uniform(20, 235, 3), np.float32)
            colour = colour.mean() * np.float32(0.55) + colour * np.float32(0.45)
            where = self._ellipse(
                self.px - how.between(-56, 56),
                self.py - how.between(-50, 60),
                how.between(8, 34),
                how.between(8, 40),
                9,
            )
            self._paint(image, where * how.between(0.25, 0.8), colour)
        result: Pixels = image.astype(np.float32)
        return result

    def _width_at(self, y: Grid) -> Grid:
        """Return half the width of the head at each height."""
        heights = np.array([-64, -60, -48, -30, -8, 10, 30, 45, 58, 63, self.chin_y], np.float32)
        heights[8:10] = self.chin_y - 7, self.chin_y - 2.5
        cheek, jaw, chin = self.cheek_w, self.jaw_w, self.chin_w
        widths = np.array(
            [0, 16, 32, cheek - 2.5, cheek, cheek - 0.6, jaw + 1, jaw - 6, chin + 5, chin - 4, 0], np.float32
        )
        fine = np.arange(-70, 80, 0.5, dtype=np.float32)
        profile = np.interp(fine, heights, widths)
        profile = np.convolve(
            np.pad(profile, 8, mode="edge"), np.hanning(17) / np.hanning(17).sum(), mode="valid"
        )
        return np.interp(y, fine, profile).astype(np.float32)

    def _head_mask(self) -> Grid:
        drop = self.open * 3.0  # the jaw opens
        y = np.where(self.y > 36, self.y - drop * np.clip((self.y - 36) / 20, 0, 1), self.y)
        self.edge = self.ax - self._width_at(y)
        return self._inside(self.edge * 0.8, 1.2)

    def _shade(self) -> Grid:
        """Return the light on a rounded head with nose, eye sockets, lips and cheeks; about 1 when full."""
        x, y, ax = self.x, self.y, self.ax
        depth = 46 * np.sqrt(np.maximum(0.04, 1 - (x / (self.cheek_w + 6)) ** 2 - ((y - 10) / 84) ** 2))
        ridge = np.clip((y + 6) / (self.nose_y + 2), 0, 1) * np.clip((self.nose_y + 4 - y) / 5, 0, 1)
        depth += 5.0 * self.nose_h * ridge * np.exp(-((x / (self.bridge_w + 1.6 + 2.6 * ridge)) ** 2))
        tip = ((y - self.nose_y + 2) / 4.2) ** 2
        depth += 3.6 * self.nose_h * np.exp(-((x / (self.nose_w * 0.72)) ** 2) - tip)
        wings = ((ax - self.nose_w * 0.86) / 2.6) ** 2 + ((y - self.nose_y) / 3.2) ** 2
        depth += 2.2 * np.exp(-wings)
        depth -= 3.4 * np.exp(-(((ax - self.eye_x) / 9.5) ** 2) - ((y - self.eye_y + 2) / 6.0) ** 2)
        depth += 1.6 * np.exp(-(((ax - self.eye_x) / 7.0) ** 2) - ((y - self.eye_y) / 3.6) ** 2)
        depth += 2.0 * np.exp(-(((ax - 14) / 13) ** 2) - ((y - self.brow_y - 0.5) / 3.6) ** 2)
        depth += (2.0 + 2.4 * self.smile) * np.exp(
            -(((ax - 23) / 10) ** 2) - ((y - 22 + 2 * self.smile) / 9.5) ** 2
        )
        fold = (ax - 12 - (y - self.nose_y) * 0.42) / 2.0
        along = np.exp(-(((y - 31) / 10) ** 2))
        depth -= (self.folds * 1.6 + 1.3 * self.smile) * np.exp(-(fold**2)) * along
        depth += 2.0 * np.exp(-((x / 11) ** 2) - ((y - self.mouth_y - 3) / 5.0) ** 2)
        depth -= 1.6 * np.exp(-((x / 9) ** 2) - ((y - self.mouth_y - 8.5) / 2.8) ** 2)
        depth += 2.4 * np.exp(-((x / 9) ** 2) - ((y - self.chin_y + 8) / 6.5) ** 2)
        slope_y, slope_x = np.gradient(depth, self.soft)
        normal = 1 / np.sqrt(slope_x**2 + slope_y**2 + 1)
        lambert = (-slope_x * self.light[0] - slope_y * self.light[1] + self.light[2]) * normal
        light = np.clip(lambert, 0, None) * (1.12 - self.ambient) * 1.15 + self.ambient * (
            0.55 + 0.45 * normal
        )
        result: Grid = light.astype(np.float32)
        return result

    def _skin(self) -> Pixels:
        x, y, ax = self.x, self.y, self.ax
        skin = np.empty((*x.shape, 3), np.float32)
        skin[:] = self.skin
        rng = np.random.Generator(np.random.Philox(self.skin_seed))
        coarse = rng.normal(0, 1, (15, 15))
        columns = np.clip((x + 56) / 8, 0, 13.99).astype(np.int64)
        lines = np.clip((y + 56) / 8.6, 0, 13.99).astype(np.int64)
        skin *= (1 + 0.012 * coarse[lines, columns]).astype(np.float32)[..., None]
        red = np.exp(-(((ax - 24) / 10) ** 2) - ((y - 24) / 9) ** 2) + 0.8 * np.exp(
            -((x / 6) ** 2) - ((y - self.nose_y) / 5) ** 2
        )
        self._paint(
            skin, np.clip(red * self.blush * 2, 0, 1), self.skin * np.array([1.0, 0.66, 0.62], np.float32)
        )
        bags = np.exp(-(((ax - self.eye_x) / 7) ** 2) - ((y - self.eye_y - 6.5) / 2.4) ** 2)
        self._paint(skin, bags * self.bags, self.skin * np.float32(0.62))
        if self.freckles:
            count = int(90 * self.freckles)
            fx, fy = rng.normal(0, 20, count), rng.normal(21, 8, count)
            for cx, cy in zip(fx[:26], fy[:26], strict=True):
                self._paint(
                    skin, 0.35 * self._ellipse(x - cx, y - cy, 0.7, 0.7, 1.0), self.skin * np.float32(0.6)
                )
        for cx, cy, radius in self.spots:
            self._paint(
                skin, 0.8 * self._ellipse(x - cx, y - cy, radius, radius, 0.7), self.skin * np.float32(0.4)
            )
        if self.beard:
            area = np.clip((y - 27 - 0.012 * (ax - 20) ** 2) / 8, 0, 1) * np.clip((ax + y - 36) / 9, 0, 1)
            if self.moustache_only:
                area = np.exp(-(((ax - 5) / 8.5) ** 2) - ((y - self.mouth_y + 4.6) / 2.6) ** 2)
            grain = 1 + 0.16 * rng.normal(0, 1, x.shape)
            lips = self._ellipse(x, y - self.mouth_y, self.mouth_w + 1, 4.4, 2)
            mask = np.clip(area * (1 - lips) * self.beard * grain, 0, 0.95).astype(np.float32)
            self._paint(skin, mask, self.hair * np.float32(0.85) + self.skin * np.float32(0.08))
        brow_x = (ax - 15.5) / self.brow_w
        arch = self.brow_y - self.lift - self.brow_arch * (1 - brow_x**2) + self.brow_tilt * (ax - 15.5)
        taper = self.brow_t * np.clip(1.15 - 0.55 * brow_x - 0.35 * brow_x**2, 0.1, 1.4)
        brow = self._inside(np.abs(y - arch) - taper, 1.7) * self._inside(
            np.abs(brow_x) * self.brow_w - self.brow_w, 2.2
        )
        self._paint(skin, brow * self.brow_dark, self.hair * np.float32(0.72))
        nostril = self._ellipse(ax - self.nose_w * 0.52, y - self.nose_y - 2.4, self.nose_w * 0.27, 1.15, 1.1)
        self._paint(skin, nostril * 0.75, self.skin * np.float32(0.24))
        under = np.exp(-((ax / (self.nose_w * 0.95)) ** 2) - ((y - self.nose_y - 3.6) / 1.8) ** 2)
        self._paint(skin, under * 0.3, self.skin * np.float32(0.5))
        return skin

    def _eyes(self, face: Pixels, shade: Grid) -> None:
        light = np.clip(shade, 0.25, 1.15)[..., None]
        side = np.where(self.x < 0, -1.0, 1.0).astype(np.float32)
        ex = self.ax - self.eye_x
        ey = self.y - self.eye_y + self.eye_tilt * ex
        half = np.clip(1 - (ex / self.eye_w) ** 2, 0, 1)
        height = self.eye_h * max(0.25, self.squint)
        upper, lower = -height * half**0.75, 0.72 * height * half
        opening = self._inside(upper - ey) * self._inside(ey - lower) * self._inside(np.abs(ex) - self.eye_w)
        crease = (
            np.exp(-(((ey - upper + self.lid_gap) / 0.8) ** 2)) * (np.abs(ex) < self.eye_w * 1.05) * half**0.3
        )
        self._paint(face, crease * self.lid_dark, face * np.float32(0.55))
        self._paint(face, opening, np.array([236, 230, 224], np.float32) * light * 0.97)
        ix, iy = ex - side * self.gaze[0], ey - self.gaze[1] + 0.3
        iris = self._ellipse(ix, iy, 3.3, 3.3)
        ring = np.clip((np.sqrt(ix**2 + iy**2) - 1.6) / 1.8, 0, 1)[..., None]
        self._paint(face, opening * iris, self.iris * (1.15 - 0.55 * ring) * light)
        self._paint(face, opening * self._ellipse(ix, iy, 1.45, 1.45), np.array([12, 10, 10], np.float32))
        lid_shadow = opening * np.clip(1 - (ey - upper) / 1.8, 0, 1)
        self._paint(face, lid_shadow * 0.5, np.array([40, 28, 24], np.float32))
        lash = np.exp(-(((ey - upper) / 0.75) ** 2)) * self._inside(np.abs(ex) - self.eye_w, 1.5)
        self._paint(face, lash * 0.8, np.array([28, 20, 18], np.float32))
        line = np.exp(-(((ey - lower) / 0.6) ** 2)) * self._inside(np.abs(ex) - self.eye_w, 2.0)
        self._paint(face, line * 0.35, self.skin * np.float32(0.4))
        spot = self._ellipse(self.x - side * self.eye_x - 1.1 - self.gaze[0], iy + 1.2, 0.75, 0.75, 0.8)
        self._paint(face, opening * spot * 0.9, np.array([250, 250, 250], np.float32))

    def _mouth(self, face: Pixels, shade: Grid) -> None:
        light = np.clip(shade, 0.25, 1.2)[..., None]
        width = self.mouth_w * (1 + 0.17 * self.smile)
        part = self.x / width
        half = np.clip(1 - part**2, 0, 1)
        centre = self.mouth_y - 2.6 * self.smile * part**2 + 0.6 * self.smile
        gap = (3.6 * self.open + 1.9 * max(0.0, self.smile - 0.35)) * half
        cupid = self.bow * np.exp(-((self.x / 2.2) ** 2))
        top, bottom = centre - gap * 0.4, centre + gap * 0.6
        within = self._inside(np.abs(self.x) - width, 1.5)
        y = self.y
        upper = self._inside(
            top - (self.upper_lip * (0.25 + 0.75 * half)) * half**0.4 + cupid - y, 1.1
        ) * self._inside(y - top, 0.8)
        lower = self._inside(bottom - y, 0.8) * self._inside(y - bottom - self.lower_lip * half**0.6, 1.1)
        self._paint(face, upper * within * 0.85, self.lip * np.float32(0.84) * light)
        self._paint(face, lower * within * 0.85, self.lip * light)
        shine = np.exp(-((self.x / 6) ** 2) - ((y - bottom - self.lower_lip * 0.45) / 1.0) ** 2)
        self._paint(face, shine * 0.22 * lower, np.array([255, 235, 230], np.float32) * light)
        hole = self._inside(top - y) * self._inside(y - bottom) * within
        self._paint(face, hole, np.array([60, 22, 22], np.float32) * light)
        teeth = (
            hole * self._inside(y - top - np.minimum(3.0, gap * 0.75)) * self._inside(np.abs(part) - 0.8, 0.1)
        )
        self._paint(face, teeth * 0.92, np.array([232, 226, 214], np.float32) * light * 0.95)
        line = np.exp(-(((y - (top + bottom) / 2) / 0.7) ** 2)) * within * np.clip(1 - gap / 1.5, 0, 1)
        self._paint(face, line * 0.75, self.lip * np.float32(0.36))
        corner = np.exp(
            -(((np.abs(self.x) - width) / 1.6) ** 2) - ((y - self.mouth_y + 2 * self.smile) / 1.5) ** 2
        )
        self._paint(face, corner * 0.4, self.skin * np.float32(0.45))

    def _hair_colour(self) -> Pixels:
        rng = np.random.Generator(np.random.Philox(self.skin_seed + 1))
        curl = 9.0 * np.sin(self.y / 5 + self.x / 7) if self.hair_style == "curly" else 0.0
        place = self.x * 1.3 + 0.35 * self.y * np.clip((self.x - self.parting) / 6, -1, 1) + curl + 128
        strands = np.interp(place, np.arange(256), rng.normal(0, 1, 256)).astype(np.float32)
        sheen = 0.25 * np.exp(-(((self.y + 40 + 0.01 * self.x**2 + 8 * self.light[1]) / 9) ** 2))
        light = (0.62 + 0.3 * self.ambient + sheen + 0.18 * self.light[0] * self.x / 40) * (
            1 + 0.12 * strands
        )
        result: Pixels = (self.hair * np.clip(light, 0.2, 1.6)[..., None]).astype(np.float32)
        return result

    def _hair_back(self) -> Grid:
        wave = 1.6 * np.sin(self.y / 6.5 + self.parting) + (
            2.5 * np.sin(self.y / 3 + self.x / 4) if self.hair_style == "curly" else 0
        )
        reach = 9 if self.hair_style == "long" else 12
        width = self._width_at(np.minimum(self.y, 14)) + reach + wave
        return self._inside(self.ax - width, 2.0) * (
            self._inside(self.y - 22, 14) if self.hair_style == "curly" else 1.0
        )

    def _hair_front(self, image: Pixels, head: Grid) -> None:
        x, y, style = self.x, self.y, self.hair_style
        if style == "bald":
            return
        line = self.hairline + 0.013 * (x - self.parting * 0.3) ** 2 * (1.0 if style != "receding" else 0.4)
        if style == "receding":
            line = line - 9 + 9 * np.exp(-((x / 13) ** 2)) - 0.004 * x**2
        if style == "fringe":
            line = (
                np.minimum(self.brow_y - 6 + 1.4 * np.sin(x / 3.1 + self.parting), self.hairline + 22)
                + 0.004 * x**2
            )
        if style in {"short", "long"}:
            line = line - 5 * np.exp(-(((x - self.parting) / 7) ** 2))
        sides = self.cheek_w - {"long": 5.5, "curly": 4.0, "fringe": 4.0}.get(style, 1.8)
        end = {"long": 90.0, "curly": 20.0, "fringe": 12.0}.get(style, 4.0)
        temple = self._inside(sides - self.ax, 2.4) * self._inside(y - end, 8)
        cap = self._inside(y - line, 2.6)
        volume = 5.0 if style in {"short", "receding"} else 9.0
        outer = self._inside(self.ax - self._width_at(np.minimum(y, 10)) - volume, 2.0)
        crown = self._inside(-(y + 66 + volume), 2.0)
        mask = np.maximum(cap, temple) * outer * crown
        shadow = np.maximum(
            self._inside(y - line - 3.5, 7),
            self._inside(sides - 2.5 - self.ax, 5) * self._inside(y - end - 3, 8),
        )
        self._paint(image, shadow * head * 0.28, image * np.float32(0.4))
        self._paint(image, mask, self._hair_colour())

    def _paint_glasses(self, image: Pixels) -> None:
        gx, gy = (self.ax - self.eye_x - 0.6) / self.lens_w, (self.y - self.eye_y - 1.2) / self.lens_h
        radius = (np.abs(gx) ** 2.8 + np.abs(gy) ** 2.8) ** (1 / 2.8)
        distance = (radius - 1) * self.lens_h
        frame = np.array([self.frame, self.frame * 0.9, self.frame * 0.85], np.float32)
        self._paint(image, self._inside(distance) * 0.10, np.array([225, 232, 240], np.float32))
        rim = self._inside(np.abs(distance) - 0.75)
        gap = self.eye_x - self.lens_w + 1.2
        bridge = self._inside(np.abs(self.y - self.eye_y + 1.5 - 0.03 * self.x**2) - 0.75) * self._inside(
            self.ax - gap
        )
        arm = self._inside(np.abs(self.y - self.eye_y + 1.0) - 0.8) * self._inside(
            self.eye_x + self.lens_w - self.ax
        )
        self._paint(image, np.maximum(np.maximum(rim, bridge), arm * self._inside(self.edge - 1)), frame)


def _camera(image: Pixels, how: Draws) -> Pixels:
    """Return the image with the exposure, the tint, the contrast and the noise of some camera."""
    warm = how.normal(0.045)
    tint = np.array([1 + warm, 1 + how.normal(0.01), 1 - warm], np.float32)
    image = image * tint * np.float32(how.between(0.82, 1.16))
    image = (image - 120) * np.float32(how.between(0.86, 1.12)) + 120 + np.float32(how.normal(6))
    return image + how.rng.normal(0, how.between(0.8, 3.0), image.shape).astype(np.float32)
