"""The run directory: everything a training used and made, so that it can go on, be judged and be exported.

run.json        resolved settings and where everything came from      network.pth   the result
backbone.pth    the frozen backbone's weights                         state.pth     to go on from
history.json    losses by epoch                                       curves.png    the same as a picture
ignored.png     what is not judged, if anything                       snapshots/    every epoch, if asked for
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from edge.errors import ConfigError
from edge.manifest import ScoreRule
from training.checkpoint import load_tensors, save_weights, set_own_state
from training.files import made_directory, write_text
from training.format1 import upgraded_settings, upgraded_state
from training.networks.backbones import Backbone, load_backbone
from training.networks.detector import Detector
from training.networks.trainable import Bool, Trainable
from training.settings import TrainSettings

RECORD, BACKBONE, NETWORK, STATE = "run.json", "backbone.pth", "network.pth", "state.pth"
SNAPSHOTS, HISTORY, CURVES, IGNORED = "snapshots", "history.json", "curves.png", "ignored.png"
_OLD_TEMPLATES = "templates"


class RunRecord(BaseModel):
    """`run.json`; `data` is where the images were. Format 1 is read, and written no more."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal[1, 2] = 2
    settings: TrainSettings
    product: str
    data: str | None = None
    data_sha256: str
    train_images: int
    held_out_images: int
    skipped: tuple[tuple[str, str], ...]
    backbone_weights: str
    code_version: str
    torch_version: str
    processes: int
    command: str

    @model_validator(mode="before")
    @classmethod
    def _upgraded(cls, given: Any) -> Any:
        if isinstance(given, dict) and given.get("format") == 1 and isinstance(given.get("settings"), dict):
            return {**given, "settings": upgraded_settings(given["settings"])}
        return given


@dataclass(frozen=True)
class Run:
    """A run directory whose record could be read."""

    path: Path
    record: RunRecord

    @property
    def is_trained(self) -> bool:
        """Whether any epoch has been finished."""
        return (self.path / NETWORK).is_file()

    def trainable(self, snapshot: int | None = None) -> Trainable:
        """What was trained, in eval mode, on the CPU; or as it was after epoch number `snapshot`, from 1.

        Raises:
            ConfigError: there is none, or a file is damaged.
        """
        settings = self.record.settings
        backbone = load_backbone(settings.network.backbone, self.path / BACKBONE)
        trainable = settings.kind.build(backbone, settings.network, self.ignored())
        path = self.path / (NETWORK if snapshot is None else snapshot_name(snapshot))
        state = load_tensors(path)
        if self.record.format == 1:
            state = upgraded_state(state, self.path / _OLD_TEMPLATES, len(trainable.get_buffer("templates")))
        set_own_state(trainable, state, path)
        trainable.eval()
        return trainable

    def ignored(self) -> Bool | None:
        """Pixels of the network's input that are not judged, bool (256, 256); None for none.

        Raises:
            ConfigError: the picture of them is missing.
        """
        if self.record.settings.data.ignore_mask is None:
            return None
        ignored = cv2.imread(str(self.path / IGNORED), cv2.IMREAD_GRAYSCALE)
        if ignored is None:
            raise ConfigError(f"'{self.path / IGNORED}' is missing or damaged", "train again")
        marked: Bool = np.asarray(ignored) != 0
        return marked

    def detector(
        self, snapshot: int | None = None, score_rule: ScoreRule | None = None, fusion: str | None = None
    ) -> Detector:
        """The whole detector, in eval mode, on the CPU; None takes what the settings say."""
        settings = self.record.settings
        return Detector(
            self.trainable(snapshot).maps(),
            settings.kind.fuse,
            score_rule or settings.score_rule,
            fusion or settings.network.fusion,
            self.ignored(),
        ).eval()


def load_run(path: Path) -> Run:
    """Read a run directory's record.

    Raises:
        ConfigError: there is none, or it is malformed or of another format.
    """
    try:
        text = (path / RECORD).read_text(encoding="utf-8")
        return Run(path, RunRecord.model_validate_json(text))
    except OSError:
        raise ConfigError(f"'{path}' is no training run (it has no {RECORD})", "train one: tfanet-edge train") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "its text"
        raise ConfigError(f"'{path / RECORD}' is malformed at {where} ({first['msg']})", "train again") from error


def snapshot_name(epoch: int) -> str:
    """Where the weights after an epoch are kept."""
    return f"{SNAPSHOTS}/epoch_{epoch:04d}.pth"


def refuse_other_run(path: Path, record: RunRecord) -> None:
    """Whether a training can go on in a directory, if there is a run in it.

    What may differ: the command and the versions, nothing that decides the result.

    Raises:
        ConfigError: the directory holds another run.
    """
    if not (path / RECORD).is_file():
        return
    run = load_run(path)
    if run.record.format == 1:
        raise ConfigError(
            f"'{path}' holds a run of an earlier version, which can be evaluated and exported only",
            "give a new directory with --out",
        )
    there, here = (
        _flat(entry.model_dump(mode="json", exclude={"command", "code_version", "torch_version", "data"}))
        for entry in (run.record, record)
    )
    different = [
        f"{name} is {there.get(name)}, not {value}" for name, value in here.items() if there.get(name) != value
    ]
    if different:
        raise ConfigError(
            f"'{path}' holds another run: its {', its '.join(different[:3])}", "give a new directory with --out"
        )


def make_directory(path: Path) -> None:
    """Make a run directory, which is no run yet.

    Raises:
        ConfigError: it cannot be made.
    """
    remedy = "give another with --out"
    made_directory(made_directory(path, remedy) / SNAPSHOTS, remedy)


def start_run(path: Path, record: RunRecord, backbone: Backbone, ignored: Bool | None) -> None:
    """Make a directory a run, unless it is one; the record comes last."""
    if (path / RECORD).is_file():
        return
    save_weights(backbone, path / BACKBONE)
    if ignored is not None:
        cv2.imwrite(str(path / IGNORED), ignored.astype(np.uint8) * 255)
    write_text(path / RECORD, record.model_dump_json(indent=2) + "\n")


def _flat(tree: dict[str, Any]) -> dict[str, Any]:
    """The leaves of nested dictionaries by their own names, which are all different."""
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        flat |= _flat(value) if isinstance(value, dict) else {name: value}
    return flat
