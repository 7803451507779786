"""The command line: one program whose verbs come from the entry-point group `tfanet_edge.commands`.

Exit status: 0 done; 1 failed; 2 the input is wrong, and one line on standard error says what and how to mend it;
3 refused on evidence: measured figures are outside their limits.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from difflib import get_close_matches
from importlib.metadata import EntryPoint, entry_points, version
from typing import NoReturn

from edge.errors import InputError, RefusedError, TfanetEdgeError

GROUP = "tfanet_edge.commands"


class _Parser(argparse.ArgumentParser):
    """Says in one line what is wrong with the command line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}: see '{self.prog} --help'\n")

    def refuse_unknown_option(self, arguments: Sequence[str]) -> None:
        """A misspelt option is named even when a required one is missing because of it."""
        for action in self._actions:
            if isinstance(action, argparse._SubParsersAction):
                below = action.choices.get(arguments[0]) if arguments else None
                if below is not None:
                    below.refuse_unknown_option(arguments[1:])
                return
        known = [name for action in self._actions for name in action.option_strings]
        for argument in arguments:
            name = argument.partition("=")[0]
            if name == "--":
                return
            if name.startswith("--") and name not in known:
                near = get_close_matches(name, known, 1)
                self.error(f"unknown option '{name}'" + (f", did you mean '{near[0]}'?" if near else ""))


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb and return its exit status."""
    arguments = _parse(sys.argv[1:] if argv is None else list(argv))
    try:
        return int(arguments.handler(arguments))
    except InputError as error:
        return _fail(error, 2)
    except RefusedError as error:
        return _fail(error, 3)
    except TfanetEdgeError as error:
        return _fail(error, 1)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # `| head` closed our output; without this, Python would complain again when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = _Parser(prog="tfanet-edge", description="Edge inspection station.", allow_abbrev=False)
    parser.add_argument("--version", action="version", version=version("tfanet-edge"))
    verbs = parser.add_subparsers(metavar="VERB", required=True, parser_class=_Parser)
    entries = sorted(entry_points(group=GROUP), key=lambda entry: entry.name)
    # One verb alone starts in a fraction of the time; all are there for the list of them and for a misspelt one.
    for entry in [entry for entry in entries if argv and entry.name == argv[0]] or entries:
        _add_verb(verbs, entry)
    verb = verbs.choices.get(argv[0]) if argv else None
    if verb is not None and "-" in verb.prefix_chars:
        verb.refuse_unknown_option(argv[1:])
    return parser.parse_args(argv)


def _add_verb(verbs: argparse._SubParsersAction[_Parser], entry: EntryPoint) -> None:
    try:
        add_command = entry.load()
    except ModuleNotFoundError as error:
        _add_missing(verbs, entry, error)
    else:
        add_command(verbs)


def _add_missing(verbs: argparse._SubParsersAction[_Parser], entry: EntryPoint, error: ModuleNotFoundError) -> None:
    """A verb whose extra is not installed says which one to install."""
    extra = ",".join(entry.extras) or "edge"
    remedy = f"pip install 'tfanet-edge[{extra}]'"

    def refuse(_: argparse.Namespace) -> int:
        raise InputError(f"'{entry.name}' needs the Python package '{error.name}', which is not installed", remedy)

    # No option can begin with this prefix, so whatever follows the verb reaches `refuse`.
    verb = verbs.add_parser(entry.name, help=f"not installed: {remedy}", prefix_chars="\0", add_help=False)
    verb.add_argument("rest", nargs="*")
    verb.set_defaults(handler=refuse)


def _fail(error: TfanetEdgeError, status: int) -> int:
    print(f"tfanet-edge: {error}", file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
