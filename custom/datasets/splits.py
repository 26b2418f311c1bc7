"""Splits of a data set into training and validation images."""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from custom.errors import InputError
from custom.io.json_file import read_json, write_json
from custom.io.names import TCGA_PATIENT

_NAME = re.compile(
    r"(?P<rule>random|stratified|grouped|stain|kfold|grouped-kfold)"
    r"_(?P<first>\d+)-(?P<second>\d+)(?:_seed(?P<seed>\d+))?"
)
NAMES = (
    "random_80-20, stratified_90-10, grouped_80-20, stain_80-20, kfold_5-0 (fold 0 of "
    "5), grouped-kfold_5-0, each optionally followed by _seed7 or another seed, or all"
)


@dataclass(frozen=True)
class Split:
    """The training and validation images of a data set, by sorted names.

    Attributes:
        name: What a config calls it, for example ``stratified_80-20_seed42``.
        rule: ``random``, ``stratified`` (by the classes present), ``grouped`` (by
            patient), ``stain`` (by stain and sharpness), ``kfold``, ``grouped-kfold``
            or ``all``.
        seed: Of the rule.
    """

    name: str
    rule: str
    seed: int
    train: tuple[str, ...]
    val: tuple[str, ...]

    def save(self, path: str | Path) -> None:
        """Write the split as JSON, atomically."""
        write_json(asdict(self), path, indent=1)

    @classmethod
    def load(cls, path: str | Path) -> Split:
        """Read and check a split file.

        Raises:
            InputError: The file is missing, is not JSON, lacks keys, or names an image
                twice.
        """
        remedy = "Write it again with tools/data/make_split.py"
        data = read_json(path, remedy)
        try:
            split = cls(
                name=str(data["name"]),
                rule=str(data["rule"]),
                seed=int(data["seed"]),
                train=_names(data["train"]),
                val=_names(data["val"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(path, f"not a split: {error!r}", remedy) from None
        twice = [n for n, k in Counter(split.train + split.val).items() if k > 1]
        if twice:
            raise InputError(path, f"names images twice: {_some(twice)}", remedy)
        return split

    def check(self, names: Sequence[str], source: str | Path) -> None:
        """Raise :class:`InputError` unless the split's images are all there."""
        absent = sorted(set(self.train + self.val) - set(names))
        if absent:
            raise InputError(
                source,
                f"the split {self.name} names {len(absent)} images that are not "
                f"there: {_some(absent)}",
                "Complete the folder, or make a split for it with "
                "tools/data/make_split.py",
            )


def find_split(
    spec: str | Split,
    classes_of: Mapping[str, Sequence[str]],
    source: str | Path,
    image_of: Mapping[str, str | Path] | None = None,
) -> Split:
    """The split that a config names: a ``.json`` file, or a rule by its name.

    The images of a file must be in the data set. A name of :data:`NAMES` is that of
    :func:`make_split`: with one seed and folder it gives one split everywhere.
    """
    if isinstance(spec, Split) or spec.endswith(".json"):
        split = spec if isinstance(spec, Split) else Split.load(spec)
        split.check(list(classes_of), source)
        return split
    return make_split(spec, classes_of, source, image_of=image_of)


def make_split(
    name: str,
    classes_of: Mapping[str, Sequence[str]],
    source: str | Path,
    patient_of: Mapping[str, str] | None = None,
    image_of: Mapping[str, str | Path] | None = None,
) -> Split:
    """Divide the images of a data set.

    All rules but ``random`` place one unit after the other, those with the rarest class
    first, where that class is most wanted: iterative stratification, Sechidis et al.,
    ECML PKDD 2011, Algorithm 1. A unit is an image, all images of a patient
    (``grouped``), or those of a :func:`~custom.datasets.stain.stain_clusters`.

    Args:
        name: One of the names of :data:`NAMES`.
        classes_of: For each image the classes that it has.
        source: The folder of the images, for messages.
        patient_of: Patient of each image; default: by the TCGA barcodes in the names.
        image_of: File of each image, which ``stain`` needs.

    Raises:
        InputError: The rule or the patients are unknown, or a part would be empty.
    """
    names = sorted(classes_of)
    if name == "all":
        return Split(name, "all", 0, tuple(names), ())
    match = _NAME.fullmatch(name)
    if not match:
        raise InputError(name, "no such split", f"Give a .json file, or one of {NAMES}")
    rule, seed = match["rule"], int(match["seed"] or 42)
    shares, chosen = _shares(name, rule, int(match["first"]), int(match["second"]))
    if rule == "stain":
        from custom.datasets.stain import stain_clusters  # reads all images

        kind, unit_of = "stain clusters", stain_clusters(image_of or {})
    elif rule.startswith("grouped"):
        kind = "patients"
        unit_of = dict(patient_of or patients_from_names(names, source))
    else:
        kind, unit_of = "images", {image: image for image in names}
    units: dict[str, list[str]] = {}
    for image in names:
        units.setdefault(unit_of[image], []).append(image)
    keys = list(units)
    np.random.default_rng(seed).shuffle(keys)
    if rule == "random":
        held_out = keys[: round(shares[1] * len(names))]
    else:
        held_out = _stratify(keys, units, classes_of, shares)[chosen]
    val = {image for key in held_out for image in units[key]}
    train = tuple(image for image in names if image not in val)
    if not val or not train:
        raise InputError(
            source,
            f"{len(units)} {kind} are too few for the split {name}",
            "Choose another split, or 'all' to train without validation",
        )
    full_name = name if match["seed"] else f"{name}_seed{seed}"
    return Split(full_name, rule, seed, train, tuple(sorted(val)))


def _shares(name: str, rule: str, first: int, second: int) -> tuple[list[float], int]:
    """The share of each part of a split, and the number of the validation's."""
    if rule.endswith("kfold"):
        if not 0 <= second < first:
            raise InputError(
                name, f"fold {second} of {first} does not exist", "Count from 0"
            )
        return [1 / first] * first, second
    if 0 in (first, second):
        raise InputError(
            name, "one part is empty", "Choose shares such as 80-20, or 'all'"
        )
    return [first / (first + second), second / (first + second)], 1


def _stratify(
    keys: list[str],
    units: Mapping[str, Sequence[str]],
    classes_of: Mapping[str, Sequence[str]],
    shares: Sequence[float],
) -> list[list[str]]:
    """Divide units among bins so that each gets its share of images and classes."""
    size = {key: len(units[key]) for key in keys}
    content = {
        key: Counter(c for image in units[key] for c in classes_of[image])
        for key in keys
    }
    bins: list[list[str]] = [[] for _ in shares]
    room = np.array(shares) * sum(size.values())
    total = sum(content.values(), Counter())
    want = {c: np.array(shares) * n for c, n in total.items()}
    left = list(keys)
    while left:
        remaining = Counter(c for key in left for c in content[key])
        if remaining:
            rarest = min(remaining, key=lambda c: (remaining[c], c))
            group = [key for key in left if content[key][rarest]]
        else:
            rarest, group = None, left
        # Large patients first: small ones fill what is left.
        for key in sorted(group, key=lambda k: -size[k]):
            need = want[rarest] if rarest is not None else room
            best = max(range(len(bins)), key=lambda b: (need[b], room[b], -b))
            bins[best].append(key)
            room[best] -= size[key]
            for c, n in content[key].items():
                want[c][best] -= n
        placed = set(group)
        left = [key for key in left if key not in placed]
    return bins


def patients_from_names(names: Sequence[str], source: str | Path) -> dict[str, str]:
    """Patient of each image by the TCGA barcode in its name.

    Raises:
        InputError: A name lacks one.
    """
    matches = {name: TCGA_PATIENT.search(name) for name in names}
    without = [name for name, match in matches.items() if match is None]
    if without:
        raise InputError(
            source,
            f"{len(without)} names carry no TCGA patient: {_some(without)}",
            "Give a CSV with the columns name,patient to tools/data/make_split.py "
            "--patients, and its split file to the config; where patients "
            "are unknown, choose a split by stain, such as stain_80-20",
        )
    return {name: match[0] for name, match in matches.items() if match}


def patients_from_csv(path: str | Path, names: Sequence[str]) -> dict[str, str]:
    """Patient of each image from a CSV file with the columns ``name,patient``.

    Raises:
        InputError: The file is missing or not CSV, has other columns, leaves images
            out, or gives one two patients.
    """
    try:
        # Spreadsheets put a byte order mark in front.
        with open(path, newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
    except FileNotFoundError:
        raise InputError(path, "the file does not exist", "Check the name") from None
    except (OSError, ValueError, csv.Error) as error:
        raise InputError(
            path, f"not a readable CSV file ({error})", "Save it as CSV in UTF-8"
        ) from None
    if not rows or not {"name", "patient"} <= set(rows[0]):
        raise InputError(
            path,
            "it lacks the columns name and patient",
            "Begin the file with the line name,patient",
        )
    patients: dict[str, str] = {}
    for row in rows:
        patient = (row["patient"] or "").strip()
        if patient and patients.setdefault(row["name"], patient) != patient:
            raise InputError(
                path,
                f"{row['name']} has two patients, {patients[row['name']]} and "
                f"{patient}",
                "Keep one line for each image",
            )
    missing = sorted(set(names) - set(patients))
    if missing:
        raise InputError(
            path,
            f"{len(missing)} images lack a patient: {_some(missing)}",
            "Add a line for each image",
        )
    return {name: patients[name] for name in names}


def _names(value: object) -> tuple[str, ...]:
    """The names of a split file, which must be a list of strings."""
    if not isinstance(value, list) or not all(isinstance(n, str) for n in value):
        raise TypeError(f"{str(value)[:40]!r} is not a list of image names")
    return tuple(value)


def _some(names: Sequence[str], most: int = 3) -> str:
    """The first few names of a list."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(map(str, names[:most])) + more
