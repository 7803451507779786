"""The verb `ablate`: what each part of a detector's recipe is worth, on the same images, one change at a time."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any, get_args

from edge.errors import ConfigError
from edge.manifest import ScoreRule
from training.allocator import keep_freed_memory
from training.command import GIB, preferred_precision
from training.distributed import World, joined_world
from training.evaluation.evaluate import Evaluation, evaluate_variants
from training.evaluation.predict import read_parts
from training.files import write_text
from training.networks.backbones import ARCHITECTURES, BackboneName
from training.networks.trainable import Change
from training.options import add_settings, settings_from
from training.provenance import code_version
from training.run import HISTORY, Run
from training.settings import TrainSettings
from training.train import train_run

COLUMNS = ("image AUROC", "pixel AUROC", "pixel AP", "AUPRO@0.3", "error ratio", "training, s")


@dataclass(frozen=True)
class Variant:
    """One row of a table.

    Attributes:
        group: what is varied.
        name: to what.
        settings: of the training.
        picks_on_test: the best of all epochs on test images, as the authors' release picks it, in place of the result.
    """

    group: str
    name: str
    settings: TrainSettings
    picks_on_test: bool = False


def variants(base: TrainSettings, backbones: Sequence[BackboneName]) -> list[Variant]:
    """All rows that need a training; equal settings occur more than once and are trained once."""
    changes = [*base.kind.ablations, *(Change("backbone", name, {"backbone": name}) for name in backbones)]
    return [Variant(row.group, row.name, _changed(base, row.fields), row.picks_on_test) for row in changes]


def _changed(base: TrainSettings, fields: Mapping[str, Any]) -> TrainSettings:
    plain = base.model_dump()
    own = {name: value for name, value in fields.items() if name in plain["network"]}
    others = {name: value for name, value in fields.items() if name not in own}
    return TrainSettings.model_validate(plain | others | {"network": plain["network"] | own})


def add_command(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `ablate --data DIR… --weights [NAME=]FILE… --out DIR` and the options of `train`."""
    parser = subparsers.add_parser("ablate", help="what each part of a detector's training recipe is worth")
    parser.add_argument("--data", type=Path, nargs="+", required=True, metavar="DIR", help="products with test images")
    parser.add_argument(
        "--weights", nargs="+", required=True, metavar="NAME=FILE", help="state dict of each backbone to compare"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="for runs and tables")
    parser.add_argument("--groups", nargs="+", metavar="GROUP", help="only these tables")
    add_settings(parser)
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.set_defaults(handler=_handle)


def _handle(arguments: argparse.Namespace) -> int:
    weights = _weights(arguments.weights)
    base = settings_from(vars(arguments), None, {"precision": preferred_precision(arguments.device)})
    if base.network.backbone not in weights:
        raise ConfigError(f"--weights has no file for {base.network.backbone}", f"add {base.network.backbone}=FILE")
    rows = variants(base, list(weights))
    groups = list(dict.fromkeys([*(row.group for row in rows), "fusion", "score rule"]))
    wanted = arguments.groups or groups
    unknown = [group for group in wanted if group not in groups]
    if unknown:
        raise ConfigError(f"no group '{unknown[0]}'", f"choose among: {', '.join(groups)}")
    figures: dict[str, dict[str, dict[str, Any]]] = {}
    keep_freed_memory()
    with joined_world(arguments.device) as world:
        for data in arguments.data:
            measured = _Measured(data, weights, arguments.out, world)
            for row in rows:
                if row.group in wanted:
                    table = figures.setdefault(row.group, {})
                    table.setdefault(row.name, {})[data.name] = measured.row(row)
            for group in ("fusion", "score rule"):
                if group in wanted:
                    for name, found in measured.variants_of(base, group).items():
                        figures.setdefault(group, {}).setdefault(name, {})[data.name] = found
    arguments.out.mkdir(parents=True, exist_ok=True)
    command = shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])
    content = {"command": command, "code_version": code_version(), "base": base.model_dump(mode="json")}
    write_text(arguments.out / "ablation.json", json.dumps(content | {"groups": figures}, indent=1) + "\n")
    text = markdown(figures)
    write_text(arguments.out / "ablation.md", text)
    print(text)
    return 0


class _Measured:
    """Trains and evaluates on one product; what was trained before is evaluated again, not trained."""

    def __init__(self, data: Path, weights: Mapping[BackboneName, Path], out: Path, world: World) -> None:
        self._data, self._weights, self._out, self._world = data, weights, out, world

    def row(self, variant: Variant) -> dict[str, Any]:
        run = self._trained(variant.settings)
        chosen = [(variant.settings.score_rule, variant.settings.network.fusion)]
        epochs = json.loads((run.path / HISTORY).read_text(encoding="utf-8"))
        snapshots = range(1, len(epochs) + 1) if variant.picks_on_test else [None]
        found = [self._evaluate(run, chosen, snapshot)[0] for snapshot in snapshots]
        best = max((_figures(evaluation) for evaluation in found), key=lambda of: of["image AUROC"] or 0)
        return best | {"training, s": sum(epoch["seconds"] for epoch in epochs)}

    def variants_of(self, base: TrainSettings, group: str) -> dict[str, dict[str, Any]]:
        """Rows that need no training of their own."""
        run = self._trained(base)
        if group == "fusion":
            chosen: dict[str, tuple[ScoreRule, str]] = {name: (base.score_rule, name) for name in base.kind.fusions}
        else:
            chosen = {name: (name, base.network.fusion) for name in get_args(ScoreRule)}
        found = self._evaluate(run, list(chosen.values()), None)
        return {name: _figures(evaluation) for name, evaluation in zip(chosen, found, strict=True)}

    def _trained(self, settings: TrainSettings) -> Run:
        plain, chosen = _flat(TrainSettings.model_validate({"detector": settings.detector})), _flat(settings)
        changes = [f"{name}={value}" for name, value in chosen.items() if value != plain[name] and name != "backbone"]
        name = "".join(char if char.isalnum() or char in "=.-_" else "-" for char in "_".join(changes))
        out = self._out / self._data.name / f"{settings.detector}_{settings.network.backbone}_{name or 'default'}"[:200]
        print(out, file=sys.stderr)
        return train_run(self._data, self._weights[settings.network.backbone], settings, out, self._world, 8 * GIB)

    def _evaluate(self, run: Run, chosen: Sequence[tuple[ScoreRule, str]], snapshot: int | None) -> list[Evaluation]:
        parts = read_parts(self._data, run.record.settings.data)
        return evaluate_variants(run, parts, self._world.device, chosen, snapshot, at_original=False)


def markdown(groups: Mapping[str, Mapping[str, Mapping[str, Mapping[str, float | None]]]]) -> str:
    """One table per group; each figure is the mean over the products."""
    parts = []
    for group, rows in groups.items():
        columns = [column for column in COLUMNS if any(column in of for row in rows.values() for of in row.values())]
        lines = [f"| {group} | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
        for name, products in rows.items():
            cells = [_mean([of[column] for of in products.values()], column) for column in columns]
            lines.append(f"| {name} | {' | '.join(cells)} |")
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"


def _mean(values: Sequence[float | None], column: str) -> str:
    known = [value for value in values if value is not None]
    if len(known) < len(values):
        return "–"
    return f"{fmean(known):.{ {'training, s': 0, 'error ratio': 2}.get(column, 3) }f}"


def _flat(settings: TrainSettings) -> dict[str, Any]:
    plain = settings.model_dump()
    return {**plain.pop("network"), **plain}


def _figures(evaluation: Evaluation) -> dict[str, Any]:
    total: Any = evaluation.figures["total"]
    return {
        "image AUROC": total["image"]["auroc"],
        "pixel AUROC": total["pixel_256"]["auroc"],
        "pixel AP": total["pixel_256"]["ap"],
        "AUPRO@0.3": total["pixel_256"]["aupro_30"],
        "error ratio": total["error_ratio"],
    }


def _weights(given: Sequence[str]) -> dict[BackboneName, Path]:
    weights: dict[BackboneName, Path] = {}
    for text in given:
        name, _, file = text.partition("=")
        known = next((known for known in ARCHITECTURES if known == name), None)
        if known is None or not file:
            raise ConfigError(f"'{text}' is not NAME=FILE", f"choose NAME among: {', '.join(ARCHITECTURES)}")
        weights[known] = Path(file)
    return weights
