"""The run directory: everything a training used and made, so that it can go on, be judged and be exported.

run.json        resolved settings and where everything came from      network.pth   the result
backbone.pth    the frozen backbone's weights                         state.pth     to go on from
templates/      what the templates look like, PNG                     snapshots/    every epoch, if asked for
history.json    losses by epoch                                       curves.png    the same as a picture
ignored.png     what is not judged, if anything
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, ValidationError

from edge.errors import ConfigError
from edge.frame import Image
from edge.manifest import Fusion, ScoreRule
from training.checkpoint import load_weights, save_weights
from training.files import write_text
from training.networks.backbones import ARCHITECTURES, Backbone, load_backbone
from training.networks.detector import Detector
from training.networks.tfanet import PRESETS, TFANet
from training.settings import TrainSettings

RECORD, BACKBONE, NETWORK, STATE = "run.json", "backbone.pth", "network.pth", "state.pth"
TEMPLATES, SNAPSHOTS, HISTORY, CURVES, IGNORED = "templates", "snapshots", "history.json", "curves.png", "ignored.png"


class RunRecord(BaseModel):
    """`run.json`; `data` is where the images were."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal[1] = 1
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


@dataclass(frozen=True)
class Run:
    """A run directory whose record could be read."""

    path: Path
    record: RunRecord

    @property
    def is_trained(self) -> bool:
        """Whether any epoch has been finished."""
        return (self.path / NETWORK).is_file()

    def backbone(self) -> Backbone:
        """The frozen backbone, in eval mode."""
        return load_backbone(self.record.settings.backbone, self.path / BACKBONE)

    def network(self, snapshot: int | None = None) -> TFANet:
        """The trained network, in eval mode; or as it was after epoch number `snapshot`, from 1.

        Raises:
            ConfigError: there is none, or the file is damaged.
        """
        settings = self.record.settings
        channels = sum(ARCHITECTURES[settings.backbone].build().tap_channels)
        network = TFANet(channels, PRESETS[settings.preset], settings.templates)
        load_weights(network, self.path / (NETWORK if snapshot is None else snapshot_name(snapshot)))
        return network.eval()

    def templates(self) -> Image:
        """uint8 (T, 256, 256, 3) RGB.

        Raises:
            ConfigError: one is missing or damaged.
        """
        images = np.empty((self.record.settings.templates, 256, 256, 3), np.uint8)
        for index in range(len(images)):
            path = self.path / template_name(index)
            image = cv2.imread(str(path), cv2.IMREAD_COLOR)
            if image is None or image.shape != images.shape[1:]:
                raise ConfigError(f"template '{path}' is missing or damaged", "train again")
            images[index] = cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
        return images

    def ignored(self) -> npt.NDArray[np.bool_] | None:
        """Pixels of the network's input that are not judged, bool (256, 256); None for none.

        Raises:
            ConfigError: the picture of them is missing.
        """
        if self.record.settings.data.ignore_mask is None:
            return None
        ignored = cv2.imread(str(self.path / IGNORED), cv2.IMREAD_GRAYSCALE)
        if ignored is None:
            raise ConfigError(f"'{self.path / IGNORED}' is missing or damaged", "train again")
        marked: npt.NDArray[np.bool_] = np.asarray(ignored) != 0
        return marked

    def detector(
        self, snapshot: int | None = None, score_rule: ScoreRule | None = None, fusion: Fusion | None = None
    ) -> Detector:
        """The whole detector, in eval mode, on the CPU; None takes what the settings say."""
        settings = self.record.settings
        return Detector(
            self.backbone(),
            self.network(snapshot),
            self.templates(),
            score_rule or settings.score_rule,
            fusion or settings.fusion,
            self.ignored(),
            settings.normalise_template,
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


def template_name(index: int) -> str:
    """Where a template's picture is kept."""
    return f"{TEMPLATES}/{index:02d}.png"


def start_run(
    path: Path, record: RunRecord, backbone: Backbone, templates: Image, ignored: npt.NDArray[np.bool_] | None
) -> Run:
    """Make a run directory, or open the one that is there when it belongs to the same training.

    Raises:
        ConfigError: the directory holds another run, or cannot be made.
    """
    if (path / RECORD).is_file():
        run = load_run(path)
        _refuse_other(run, record)
        return run
    try:
        (path / TEMPLATES).mkdir(parents=True, exist_ok=True)
        (path / SNAPSHOTS).mkdir(exist_ok=True)
    except OSError as error:
        raise ConfigError(f"directory '{path}' cannot be made ({error.strerror})", "give another with --out") from error
    save_weights(backbone, path / BACKBONE)
    for index, image in enumerate(templates):
        cv2.imwrite(str(path / template_name(index)), cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    if ignored is not None:
        cv2.imwrite(str(path / IGNORED), ignored.astype(np.uint8) * 255)
    write_text(path / RECORD, record.model_dump_json(indent=2) + "\n")
    return Run(path, record)


def _refuse_other(run: Run, record: RunRecord) -> None:
    """What may differ when a training goes on: the command and the versions, nothing that decides the result."""
    there, here = (
        _flat(entry.model_dump(mode="json", exclude={"command", "code_version", "torch_version", "data"}))
        for entry in (run.record, record)
    )
    different = [f"{name} is {there[name]}, not {value}" for name, value in here.items() if there[name] != value]
    if different:
        raise ConfigError(
            f"'{run.path}' holds another run: its {', its '.join(different[:3])}", "give a new directory with --out"
        )


def _flat(tree: dict[str, Any]) -> dict[str, Any]:
    """The leaves of nested dictionaries by their own names, which are all different."""
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        flat |= _flat(value) if isinstance(value, dict) else {name: value}
    return flat
