"""The page of an audit: findings with images, charts and tables."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import plotly.graph_objects as go
from tqdm import tqdm

from custom.workbench.audit.checks import KINDS, Facts, Finding
from custom.workbench.labelled import Labelled, LabelledSet
from custom.workbench.report import charts
from custom.workbench.report.images import image_uri, outline
from custom.workbench.report.page import chart, render
from custom.workbench.report.theme import DASHES, css

SHOWN = 8  # examples of one kind of finding


@dataclass
class Source:
    """The data sets of an audit.

    Attributes:
        name: What the page calls it.
        sets: The training and, if there is one, the validation set.
        max_dets: Detections per image that the model gives.
    """

    name: str
    sets: dict[str, LabelledSet]
    max_dets: int

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes."""
        return next(iter(self.sets.values())).classes

    @property
    def palette(self) -> list[tuple[int, ...]]:
        """Colours of the classes."""
        return next(iter(self.sets.values())).palette

    def samples(
        self, names: Collection[str] | None = None
    ) -> Iterator[tuple[str, Labelled]]:
        """Yield (subset, image) of all images, or those of some names, with a bar."""
        total = sum(map(len, self.sets.values())) if names is None else len(names)
        with tqdm(total=total, unit="image", delay=1, leave=False) as bar:
            for subset, dataset in self.sets.items():
                for sample in dataset.select(names):
                    yield subset, sample
                    bar.update()


def charts_of(source: Source, facts: Sequence[Facts]) -> list[tuple[str, dict]]:
    """(heading, chart): sizes of the cells of each class, cells of an image."""
    labels = np.concatenate([image.labels for image in facts])
    sides = np.sqrt(np.concatenate([image.areas for image in facts]))
    edges = 2 ** np.arange(1, 8.26, 0.25)
    sizes = go.Figure(layout=charts.axes("root of the area in px", "% of the class"))
    for c, name in enumerate(source.classes):
        of_class = np.clip(sides[labels == c], edges[0], edges[-1])
        counts, _ = np.histogram(of_class, edges)
        sizes.add_scatter(
            x=np.sqrt(edges[1:] * edges[:-1]).tolist(),
            y=(100 * counts / max(1, counts.sum())).tolist(),
            name=name,
            line={"shape": "hvh", "dash": DASHES[c % len(DASHES)]},
            hovertemplate="%{y:.1f} %",
        )
    sizes.update_xaxes(type="log", dtick=np.log10(2), hoverformat=".3~g")
    charts.by_class(sizes, source.palette)
    edges = [0, 1, 10, 20, 50, 100, 200, 500, 1000, np.inf]
    names = ["0", *(f"{a}-{b - 1}" for a, b in pairwise(edges[1:-1])), "1000+"]
    counts, _ = np.histogram([len(image.labels) for image in facts], edges)
    numbers = go.Figure(layout=charts.axes("cells in an image", "images"))
    color = {"color": charts.run_color(0)}
    numbers.add_bar(x=names, y=counts.tolist(), marker=color, hovertemplate="%{y:,}")
    numbers.update_xaxes(type="category")  # Plotly takes 1-9 for a date
    return [
        ("Cell sizes", chart(sizes, "Distribution of cell sizes")),
        ("Cells of an image", chart(numbers, "Cells of an image")),
    ]


def class_table(source: Source, facts: Sequence[Facts]) -> tuple[list, list]:
    """Headers and rows: cells, images and sizes of each class."""
    headers = [("class", "text")]
    for subset in source.sets:
        headers += [(f"{subset} cells", "number"), (f"{subset} images", "number")]
    headers += [(f"side, {part}", "number") for part in ("5 %", "median", "95 %")]
    headers.append(("at the border", "number"))
    rows = []
    for c, name in enumerate(source.classes):
        row = [name]
        for subset in source.sets:
            counts = [int((i.labels == c).sum()) for i in facts if i.subset == subset]
            row += [f"{sum(counts):,}", str(np.count_nonzero(counts))]
        areas = np.concatenate([image.areas[image.labels == c] for image in facts])
        if len(areas):
            quantiles = np.quantile(np.sqrt(areas), [0.05, 0.5, 0.95])
            border = np.concatenate([i.at_border[i.labels == c] for i in facts])
            row += [f"{side:.1f} px" for side in quantiles]
            row.append(f"{border.mean():.1%}")
        else:
            row += ["-"] * 4
        rows.append(row)
    return headers, rows


def thumbnail(image: np.ndarray, label: str, max_side: int = 300) -> dict:
    """A whole image, small."""
    height, width = image.shape[:2]
    return {
        "uri": image_uri(image, max_side),
        "size": (width, height),
        "outlines": [],
        "label": label,
    }


def close_up(sample: Labelled, box: tuple, palette: Sequence[tuple]) -> dict:
    """A cell and what is around it, with the outlines of all cells there."""
    x1, y1, x2, y2 = box
    margin = max(16, max(x2 - x1, y2 - y1) // 2)
    top, left = max(0, y1 - margin), max(0, x1 - margin)
    part = sample.image()[top : y2 + margin, left : x2 + margin]
    height, width = part.shape[:2]
    window = np.array([left, top, left + width, top + height])
    boxes = sample.masks.boxes()
    near = (boxes[:, :2] < window[2:]).all(1) & (boxes[:, 2:] > window[:2]).all(1)
    outlines = [
        (outline(patch, y - top, x - left), css(palette[label]))
        for (y, x, patch), label in zip(
            sample.masks[near].patches(), sample.labels[near], strict=True
        )
    ]
    return {
        "uri": image_uri(part, quality=90),
        "size": (width, height),
        "outlines": outlines,
        "label": f"cell at {x1}, {y1} in {sample.name}",
    }


def images_of(source: Source, findings: list[Finding]) -> dict[Finding, list[dict]]:
    """The cell of each finding in its image, or the first two images it is about."""
    by_image: dict[str, list[Finding]] = {}
    for finding in findings:
        for name in finding.images[:2]:
            by_image.setdefault(name, []).append(finding)
    drawn = {
        (finding, sample.name): close_up(sample, finding.box, source.palette)
        if finding.box
        else thumbnail(sample.image(), sample.name)
        for _, sample in source.samples(by_image)
        for finding in by_image[sample.name]
    }
    return {f: [drawn[f, name] for name in f.images[:2]] for f in findings}


def cluster_text(images: Sequence[Facts], patient_of: Mapping[str, str] | None) -> str:
    """How many images and, where they are known, patients."""
    text = f"{len(images)} images"
    if patient_of:
        count = len({patient_of[image.name] for image in images})
        text += f", {count} patient{'s' * (count > 1)}"
    return text


def audit_page(
    source: Source,
    facts: Sequence[Facts],
    results: Sequence[Finding],
    small: Mapping[str, dict],
    patient_of: Mapping[str, str] | None,
    cluster_of: Mapping[str, str],
) -> str:
    """The page as HTML."""
    by_kind = {kind: [f for f in results if f.kind == kind] for kind in KINDS}
    shown = [f for fs in by_kind.values() for f in [f for f in fs if f.images][:SHOWN]]
    by_cluster: dict[str, list[Facts]] = {}
    for image in facts:
        by_cluster.setdefault(cluster_of[image.name], []).append(image)
    cells = sum(len(image.labels) for image in facts)
    orders = Counter(image.colours.order for image in facts)
    border = sum(int(image.at_border.sum()) for image in facts)
    class_headers, class_rows = class_table(source, facts)
    halves = ", ".join(
        f"{len(dataset)} {name}" for name, dataset in source.sets.items()
    )
    tiles = [
        ("images", str(len(facts)), halves),
        ("cells", f"{cells:,}", f"{border / max(1, cells):.1%} at a border"),
        ("patients", str(len(set(patient_of.values()))), "by name or table")
        if patient_of
        else ("patients", "?", "not in the names"),
        ("stain clusters", str(len(by_cluster)), "by colour and sharpness"),
        (
            "red and blue exchanged",
            str(orders["bgr"]),
            f"{orders['rgb']} not, {orders['unclear']} unclear",
        ),
        ("suspicions", str(len(results)), f"{len({f.kind for f in results})} kinds"),
    ]
    return render(
        "audit.html.j2",
        title="Audit of a data set",
        subtitle=source.name,
        tiles=tiles,
        kinds=KINDS,
        by_kind=by_kind,
        images=images_of(source, shown),
        class_headers=class_headers,
        class_rows=class_rows,
        charts=charts_of(source, facts),
        clusters=[
            (name, cluster_text(members, patient_of), members)
            for name, members in sorted(by_cluster.items())
        ],
        small=small,
    )
