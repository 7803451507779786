"""Options for every field of the settings: those that all detectors share, and each detector's own."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import ValidationError
from pydantic.fields import FieldInfo

from edge.arguments import share
from edge.errors import ConfigError
from training.data.settings import DataSettings
from training.networks.table import DETECTORS
from training.settings import DEFAULT_DETECTOR, TrainSettings, starting_point


def add_settings(parser: argparse.ArgumentParser) -> None:
    """Add them to a parser, which tells below them what every preset begins with."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = "\n".join(["what a preset begins with, unless options say otherwise:", *_recipes()])
    parser.add_argument("--detector", choices=tuple(DETECTORS), help=f"which one (default: {DEFAULT_DETECTOR})")
    several = parser.add_argument_group("of several detectors")
    for name, fields in _own_fields().items():
        if len(fields) > 1:
            _add(several, name, fields)
    for detector, kind in DETECTORS.items():
        own = parser.add_argument_group(f"of {detector}, {kind.title}")
        for name, fields in _own_fields().items():
            if list(fields) == [detector]:
                _add(own, name, fields)
    training = parser.add_argument_group("of the training")
    for name, field in TrainSettings.model_fields.items():
        if name not in ("detector", "network", "data"):
            _add(training, name, {"": field})
    images = parser.add_argument_group("of the images")
    images.add_argument("--held-out-share", type=share, metavar="SHARE", help="good images kept back from training")
    images.add_argument("--roi-xywh", type=int, nargs=4, metavar=("X", "Y", "W", "H"), help="region of interest")
    images.add_argument("--ignore-mask", type=Path, metavar="FILE", help="image: what is not 0 there is never judged")
    images.add_argument("--white-level", type=float, metavar="VALUE", help="sample that is white: 4095 for 12 bits")
    images.add_argument("--broken", choices=("refuse", "skip"), help="images that cannot be read (default: refuse)")


def settings_from(wishes: Mapping[str, Any], named: str | None, usual: Mapping[str, Any]) -> TrainSettings:
    """The settings that options ask for.

    Args:
        wishes: options by name; None for one that was not given.
        named: one of the detector's named configurations, which say what the options do not; None for the recipe of
            the preset.
        usual: what neither says.

    Raises:
        ConfigError: a value or a combination of them is impossible.
    """
    wishes = {name: value for name, value in wishes.items() if value is not None}
    detector = wishes.get("detector", DEFAULT_DETECTOR)
    kind = DETECTORS[detector]
    for name, fields in _own_fields().items():
        if name in wishes and detector not in fields:
            raise ConfigError(
                f"{_flag(name)} is a setting of {' and '.join(fields)}, not of {detector}", "leave it out"
            )
    if named is not None and named not in kind.named:
        known = ", ".join(kind.named) or "it has none"
        raise ConfigError(f"{detector} has no configuration '{named}'", f"those it has: {known}")
    base = {**usual, **starting_point(detector, named, wishes.get("preset"))}
    sections = {"network": kind.settings.model_fields, "data": DataSettings.model_fields}
    given = {name: wishes[name] for name in TrainSettings.model_fields if name in wishes and name not in sections}
    for section, fields in sections.items():
        own = {name: wishes[name] for name in fields if name in wishes}
        given[section] = {**base.get(section, {}), **own}
    try:
        given["network"] = kind.settings.model_validate(given["network"])
        return TrainSettings.model_validate({**base, **given})
    except ValidationError as error:
        first = error.errors()[0]
        name = "_".join(str(part) for part in first["loc"] if isinstance(part, str))
        where = f"{_flag(name.removeprefix('data_'))}: " if name else ""
        raise ConfigError(f"{where}{first['msg'].removeprefix('Value error, ')}", f"given: {first['input']}") from error


def _own_fields() -> dict[str, dict[str, FieldInfo]]:
    """Each field that a detector has, by the detectors that have it."""
    found: dict[str, dict[str, FieldInfo]] = {}
    for detector, kind in DETECTORS.items():
        for name, field in kind.settings.model_fields.items():
            found.setdefault(name, {})[detector] = field
    return found


def _add(group: argparse._ArgumentGroup, name: str, fields: Mapping[str, FieldInfo]) -> None:
    """An option for a field, or for fields of several detectors that share their name and type."""
    meanings: dict[str, list[str]] = {}
    for detector, field in fields.items():
        meanings.setdefault(_meaning(field), []).append(detector)
    apart = [f"{', '.join(detectors)}: {meaning}" for meaning, detectors in meanings.items()]
    text = ("; ".join(apart) if len(apart) > 1 else next(iter(meanings))).replace("%", "%%")
    annotation: Any = next(iter(fields.values())).annotation
    if get_origin(annotation) is Literal:
        choices = dict.fromkeys(choice for field in fields.values() for choice in get_args(field.annotation))
        group.add_argument(_flag(name), choices=tuple(choices), metavar="NAME", help=text)
    elif annotation is bool:
        group.add_argument(_flag(name), action=argparse.BooleanOptionalAction, help=text)
    elif get_origin(annotation) is tuple:
        types = [_plain(each) for each in get_args(annotation)]
        group.add_argument(_flag(name), type=types[0], nargs=len(types), metavar=("LOW", "HIGH"), help=text)
    else:
        kind = _plain(annotation)
        group.add_argument(_flag(name), type=kind, metavar="N" if kind is int else "X", help=text)


def _meaning(field: FieldInfo) -> str:
    """What a field is, what can be chosen, and what it is where nobody says anything."""
    choices = get_args(field.annotation) if get_origin(field.annotation) is Literal else ()
    said = [text for text in (field.description, ", ".join(choices)) if text]
    return f"{': '.join(said)} (default: {_text(field.default)})"


def _plain(annotation: Any) -> Any:
    return get_args(annotation)[0] if get_origin(annotation) is Annotated else annotation


def _recipes() -> Iterator[str]:
    for detector, kind in DETECTORS.items():
        for preset, recipe in kind.recipes.items():
            yield f"  {detector} {preset}: {', '.join(f'{name} {_text(value)}' for name, value in recipe.items())}"


def _text(value: Any) -> str:
    if isinstance(value, tuple | list):
        return " ".join(map(str, value))
    return {True: "yes", False: "no"}.get(value, str(value)) if isinstance(value, bool) else str(value)


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")
