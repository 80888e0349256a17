"""The colours of the default model's map can be told apart, also by colour-blind readers."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from aerialseg.legend import Legend

LEGEND = Legend.from_csv(Path(__file__).parents[2] / "configs" / "legends" / "semantic-drone.csv")

# Machado, Oliveira and Fernandes (2009): what linear RGB becomes for protanopes and deuteranopes.
SEEN = {
    "everybody": np.eye(3),
    "protanopes": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    "deuteranopes": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
}
XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)


def lab(colors: np.ndarray, seen: np.ndarray) -> np.ndarray:
    values = colors / 255
    linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    x = np.clip(linear @ seen.T, 0, 1) @ XYZ.T / [0.95047, 1, 1.08883]
    f = np.where(x > 0.008856, np.cbrt(x), 7.787 * x + 16 / 116)
    return np.stack([116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])], -1)


def ciede2000(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Sharma, Wu and Dalal (2005); where a hue is ambiguous, the mean of the two is taken along the short way."""
    (l1, a1, b1), (l2, a2, b2) = np.moveaxis(one, -1, 0), np.moveaxis(other, -1, 0)
    mean = (np.hypot(a1, b1) + np.hypot(a2, b2)) / 2
    more = 1.5 - 0.5 * np.sqrt(mean**7 / (mean**7 + 25**7))
    c1, c2 = np.hypot(a1 * more, b1), np.hypot(a2 * more, b2)
    h1 = np.degrees(np.arctan2(b1, a1 * more)) % 360
    way = (np.degrees(np.arctan2(b2, a2 * more)) - h1 + 180) % 360 - 180
    hue, c, light = h1 + way / 2, (c1 + c2) / 2, ((l1 + l2) / 2 - 50) ** 2
    terms = ((-0.17, 1, -30), (0.24, 2, 0), (0.32, 3, 6), (-0.2, 4, -63))
    t = 1 + sum(weight * np.cos(np.radians(times * hue + shift)) for weight, times, shift in terms)
    dl = (l2 - l1) / (1 + 0.015 * light / np.sqrt(20 + light))
    dc = (c2 - c1) / (1 + 0.045 * c)
    dh = 2 * np.sqrt(c1 * c2) * np.sin(np.radians(way / 2)) / (1 + 0.015 * c * t)
    turn = np.radians(60 * np.exp(-(((hue % 360 - 275) / 25) ** 2)))
    return np.sqrt(dl**2 + dc**2 + dh**2 - 2 * np.sqrt(c**7 / (c**7 + 25**7)) * np.sin(turn) * dc * dh)


def test_the_formula_gives_the_published_values() -> None:
    one = np.array([[50.0, 2.6772, -79.7751], [50.0, 2.5, 0.0], [60.2574, -34.0099, 36.2677]])
    other = np.array([[50.0, 0.0, -82.7485], [73.0, 25.0, -18.0], [60.4626, -34.1751, 39.4387]])
    assert np.round(ciede2000(one, other), 4).tolist() == [2.0425, 27.1492, 1.2644]


def test_every_two_classes_differ_clearly_for_everybody() -> None:
    legend = LEGEND.on_maps((0, 23))
    colors = np.array([entry.color for entry in legend], float)
    first, second = np.triu_indices(len(colors), 1)
    for who, seen in SEEN.items():
        found = lab(colors, seen)
        apart = ciede2000(found[first], found[second])
        nearest = int(apart.argmin())
        pair = legend.names[first[nearest]], legend.names[second[nearest]]
        assert apart[nearest] > 11, (who, pair, apart[nearest])


def test_the_map_names_classes_in_plain_words_and_leaves_void_ones_out() -> None:
    names = LEGEND.on_maps((0, 23)).names
    assert {"paved", "bare tree", "other object"} <= set(names)
    assert not {"unlabeled", "conflicting", "paved-area", "bald-tree", "obstacle"} & set(names)
    assert len(names) == len(LEGEND) - 2
