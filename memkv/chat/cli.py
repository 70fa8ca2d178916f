"""`memkv`: the command line."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated, Any

import tyro

from memkv.chat.chat_command import Chat
from memkv.chat.demo_command import Demo
from memkv.chat.doctor_command import Doctor
from memkv.chat.measure_command import Measure
from memkv.chat.memory_command import MemoryCommand
from memkv.chat.serve_command import Serve
from memkv.chat.terminal import emit, error_data, report
from memkv.config import load_yaml
from memkv.errors import MemkvError

Command = (
    Annotated[Chat, tyro.conf.subcommand("chat")]
    | Annotated[Serve, tyro.conf.subcommand("serve")]
    | Annotated[MemoryCommand, tyro.conf.subcommand("memory", description="Look at, move and delete what is stored.")]
    | Annotated[Measure, tyro.conf.subcommand("measure")]
    | Annotated[Demo, tyro.conf.subcommand("demo")]
    | Annotated[Doctor, tyro.conf.subcommand("doctor")]
)

INTERRUPTED = 130  # what shells expect of a process ended by Ctrl-C


def chat_defaults(arguments: Sequence[str]) -> Any:
    """The options of `memkv chat --config FILE`, read before the command line so that the latter wins."""
    if "chat" not in arguments[:1] or "--config" not in arguments[:-1]:
        return tyro.MISSING_NONPROP
    return load_yaml(Chat, arguments[arguments.index("--config") + 1])


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse, run, and exit with the command's status; memkv's own errors become one line each."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        defaults = chat_defaults(given)
    except MemkvError as error:
        report(error)
        sys.exit(1)
    command = tyro.cli(
        Command,
        default=defaults,
        prog="memkv",
        description="Conversations that survive their process, with every byte measured.",
        args=given,
        config=(tyro.conf.OmitArgPrefixes, tyro.conf.FlagCreatePairsOff),
    )
    try:
        sys.exit(command.run())
    except MemkvError as error:
        if command.json:
            emit(error_data(error))
        else:
            report(error)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


if __name__ == "__main__":
    main()
