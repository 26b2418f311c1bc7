"""What a study is made of: rows, folds, seeds, and the runs that follow from them."""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmdet.registry import DATASETS
from mmengine.config import Config
from mmengine.registry import init_default_scope

from custom.datasets.splits import Split, make_split, patients_from_names
from custom.datasets.stain import stain_clusters
from custom.engine.configs import set_tta
from custom.errors import InputError
from custom.io.atomic import write_atomically
from custom.io.json_file import read_json, write_json

BASELINE = "baseline"


@dataclass(frozen=True)
class Run:
    """One training, or one test of a trained model: a row on one fold with one seed."""

    row: str
    fold: int
    seed: int

    @property
    def folder(self) -> str:
        """Its folder, for example ``crop-384/seed-42/fold-0``.

        The folds of a seed lie in one folder, as tools/ensemble.py takes them.
        """
        slug = "".join(c if c.isalnum() or c == "." else "-" for c in self.row)
        return f"{slug}/seed-{self.seed}/fold-{self.fold}"


@dataclass(frozen=True)
class Row:
    """One line of the table: the baseline with a change.

    Attributes:
        name: Its unique name.
        options: Dotted settings that replace those of the study's config.
        folds: The folds that it runs on.
        seeds: The seeds that it runs with.
        of: The row whose trained models it tests; None for a row that trains.
        against: The row that it is compared with.
        cost: The cost of its step over the baseline's; None to have it measured.
        tta: Whether it tests with the views of the config's ``tta_views``.
    """

    name: str
    options: dict[str, Any] = field(default_factory=dict)
    folds: tuple[int, ...] = ()
    seeds: tuple[int, ...] = ()
    of: str | None = None
    against: str = BASELINE
    cost: float | None = None
    tta: bool = False

    def runs(self) -> list[Run]:
        """Every run of the row, one fold after the other for each seed."""
        return [Run(self.name, f, s) for s in self.seeds for f in self.folds]


@dataclass(frozen=True)
class Study:
    """A baseline, its rows, and the files beside it.

    A study is a config file that inherits the baseline's config and adds ``study``, a
    dict with ``folds`` (their number), ``seeds`` (of the baseline), and ``rows``, a
    list of dicts with the attributes of :class:`Row`. The budget of a run is that of
    the baseline's ``train_cfg``; a row whose step costs more takes fewer.

    Attributes:
        path: The config file; ``<name>.jsonl``, ``<name>.costs.json`` and
            ``<name>.folds.json`` lie beside it.
        cfg: Its content without ``study``: the baseline.
        rows: All rows by name, the baseline first.
        folds: Number of folds.
        work_dir: Where runs put their checkpoints and logs.
    """

    path: Path
    cfg: Config
    rows: dict[str, Row]
    folds: int
    work_dir: Path

    @classmethod
    def load(cls, path: str | Path) -> Study:
        """Read a study.

        Raises:
            InputError: The file lacks ``study``, or a row is not valid.
        """
        path = Path(path)
        if not path.is_file():
            raise InputError(path, "the study does not exist", "Check the name")
        cfg = Config.fromfile(path)
        settings = cfg.pop("study", None)
        if settings is None:
            raise InputError(path, "it lacks `study`", "See docs/study.md")
        everywhere = tuple(range(settings.folds))
        baseline = Row(BASELINE, folds=everywhere, seeds=tuple(settings.seeds), cost=1)
        rows = {BASELINE: baseline}
        for entry in settings.rows:
            row = _row(path, entry.to_dict(), baseline, rows)
            rows[row.name] = row
        return cls(path, cfg, rows, settings.folds, Path("work_dirs", path.stem))

    @property
    def results(self) -> Path:
        """The JSON lines of the finished runs."""
        return self.path.with_suffix(".jsonl")

    @property
    def _unit(self) -> str:
        """What the training loop counts."""
        return "max_iters" if "max_iters" in self.cfg.train_cfg else "max_epochs"

    @property
    def steps(self) -> int:
        """The length of a run of the baseline in iterations (or in epochs)."""
        return self.cfg.train_cfg[self._unit]

    def runs(self) -> list[Run]:
        """Every run: of each row the first seed, then the second seeds, ..."""
        runs = [run for row in self.rows.values() for run in row.runs()]
        return sorted(runs, key=lambda run: self.rows[run.row].seeds.index(run.seed))

    def lines(self) -> dict[Run, dict]:
        """The finished runs of the rows.

        Raises:
            InputError: A line is not that of a run, or its run had another length than
                the study has now.
        """
        lines = read_lines(self.results, self.rows)
        for run, line in lines.items():
            row = self.rows[run.row]
            if row.of is None and line["steps"] != self.steps_of(row):
                raise InputError(
                    self.results,
                    f"{run.row} was run with {line['steps']} steps; the study now says "
                    f"{self.steps_of(row)}",
                    "Delete its lines, or restore the length",
                )
        return lines

    def training(self, run: Run) -> Run:
        """The run that trains the model of a run: itself, or that of another row."""
        return Run(self.rows[run.row].of or run.row, run.fold, run.seed)

    def line_file(self, run: Run) -> Path:
        """Where a finished run leaves its line."""
        return self.work_dir / run.folder / "line.json"

    def costs(self) -> dict[str, dict]:
        """The measured cost of a step of each row, see ``measure_costs``."""
        path = self.path.with_suffix(".costs.json")
        return read_json(path) if path.exists() else {}

    def save_costs(self, costs: dict[str, dict]) -> None:
        """Write the costs beside the study."""
        write_json(costs, self.path.with_suffix(".costs.json"), indent=1)

    def steps_of(self, row: Row) -> int:
        """The steps that cost as much as the baseline's."""
        ratio = row.cost or self.costs()[row.name]["ratio"]
        return max(1, round(self.steps / ratio))

    def splits(self) -> list[Split]:
        """The folds: a patient, or what looks like one slide, is in one of them.

        A single fold trains on all images of the training data and tests on all of the
        validation data, which is to be another folder then.
        """
        path = self.path.with_suffix(".folds.json")
        if not path.exists():
            write_json(self._make_folds(), path, indent=1)
        groups = json.loads(path.read_text())["folds"]
        images = sorted(image for fold in groups for image in fold)
        return [
            Split(
                f"{self.path.stem}_fold-{i}",
                "stain",
                0,
                tuple(image for image in images if image not in fold),
                tuple(sorted(fold)),
            )
            for i, fold in enumerate(groups)
        ]

    def groups(self) -> dict[str, str]:
        """The group of each image."""
        text = self.path.with_suffix(".folds.json").read_text()
        return {k: v for fold in json.loads(text)["folds"] for k, v in fold.items()}

    def _make_folds(self) -> dict:
        """For each fold its validation images with their groups."""
        init_default_scope("mmdet")
        loader = (
            self.cfg.val_dataloader if self.folds == 1 else self.cfg.train_dataloader
        )
        whole = {"split": "all", "subset": "train", "test_mode": False, "pipeline": []}
        dataset = DATASETS.build({**loader.dataset, **whole})
        entries = [dataset.get_data_info(i) for i in range(len(dataset))]
        paths = {entry["name"]: entry["img_path"] for entry in entries}
        try:
            group_of = patients_from_names(list(paths), dataset.data_prefix["img"])
        except InputError:
            group_of = stain_clusters(paths)
        classes_of = {e["name"]: dataset.get_cat_ids(i) for i, e in enumerate(entries)}
        classes_of = {k: [str(c) for c in set(v)] for k, v in classes_of.items()}
        if self.folds == 1:
            return {"folds": [group_of]}
        source = dataset.data_prefix["img"]
        folds = [
            make_split(f"grouped-kfold_{self.folds}-{i}", classes_of, source, group_of)
            for i in range(self.folds)
        ]
        return {"folds": [{name: group_of[name] for name in f.val} for f in folds]}

    def config(self, run: Run, steps: int | None = None) -> Config:
        """The config of a run, with its split, seed, folder and ``steps``.

        Args:
            run: Any of ``runs()``.
            steps: By default those that cost as much as the baseline's.
        """
        row = self.rows[run.row]
        cfg = copy.deepcopy(self.cfg)
        cfg.work_dir = str(self.work_dir / run.folder)
        cfg.randomness = {"seed": run.seed}
        split = Path(cfg.work_dir, "split.json")
        split.parent.mkdir(parents=True, exist_ok=True)
        self.splits()[run.fold].save(split)
        if row.of is not None:
            merge(cfg, self.rows[row.of].options)
        merge(cfg, row.options)
        for loader in (cfg.train_dataloader, cfg.val_dataloader):
            dataset = loader.dataset
            while "dataset" in dataset:  # inside wrappers
                dataset = dataset.dataset
            dataset.split = str(split)
            if self.folds == 1 and dataset.subset == "train":
                dataset.split = "all"
        if row.of is None:
            cfg.train_cfg[self._unit] = steps or self.steps_of(row)
        # One checkpoint, at the end: nothing is validated before.
        cfg.default_hooks.checkpoint.update(
            interval=cfg.train_cfg[self._unit],
            save_best=None,
            save_optimizer=False,
            save_param_scheduler=False,
        )
        cfg.val_cfg = cfg.val_evaluator = None
        cfg.test_dataloader, cfg.val_dataloader = cfg.val_dataloader, None
        if row.tta:
            set_tta(cfg)
        return cfg


def merge(cfg: Config, options: dict[str, Any]) -> None:
    """Replace settings by their dotted names; lists are replaced as a whole."""
    for name, value in options.items():
        *parents, last = name.split(".")
        node = cfg
        for parent in parents:
            node = node[parent]
        node[last] = copy.deepcopy(value)


def _row(path: Path, entry: dict, baseline: Row, rows: dict[str, Row]) -> Row:
    """A row of a study's file.

    Raises:
        InputError: It has an unknown key, no name of its own, or names a row that does
            not stand before it.
    """
    unknown = set(entry) - set(Row.__dataclass_fields__)
    name = entry.get("name")
    named = [entry[key] for key in ("of", "against") if entry.get(key)]
    if unknown or not name or name in rows:
        reason = f"unknown keys {sorted(unknown)}" if unknown else "no name of its own"
        raise InputError(path, f"row {name!r}: {reason}", "See docs/study.md")
    if missing := [other for other in named if other not in rows]:
        raise InputError(
            path, f"row {name!r} names {missing[0]!r}", "Name a row that stands above"
        )
    source = rows[entry["of"]] if entry.get("of") else baseline
    folds = tuple(entry.get("folds") or source.folds)
    seeds = tuple(
        entry.get("seeds") or (source.seeds if entry.get("of") else source.seeds[:1])
    )
    return Row(**{**entry, "folds": folds, "seeds": seeds})


def read_lines(path: Path, rows: Sequence[str]) -> dict[Run, dict]:
    """The finished runs of the rows that a study has.

    Raises:
        InputError: A line is not that of a run.
    """
    lines = {}
    for i, text in enumerate(path.read_text().splitlines() if path.exists() else (), 1):
        try:
            line = json.loads(text)
            run = Run(line["row"], line["fold"], line["seed"])
        except (ValueError, KeyError, TypeError):
            raise InputError(
                f"{path}, line {i}", "it is not the line of a run", "Delete the line"
            ) from None
        if run.row in rows:
            lines[run] = line
    return lines


def append_line(path: Path, line: dict) -> None:
    """Add the line of a finished run, after the others."""
    text = path.read_text() if path.exists() else ""
    with write_atomically(path) as part:
        part.write_text(text + json.dumps(line) + "\n", encoding="utf-8")
