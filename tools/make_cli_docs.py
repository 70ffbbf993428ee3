"""Write docs/cli.md: a table of the command's options, from its parser.

python tools/make_cli_docs.py
"""

import argparse
from pathlib import Path

from whisperx.arguments import build_parser

HEAD, RULE = "| option | value | default | |", "|---|---|---|---|"
PAGE = Path(__file__).parents[1] / "docs" / "cli.md"


def page() -> str:
    parser = build_parser()
    lines = [
        "# The whisperx command",
        "",
        "<!-- Written by tools/make_cli_docs.py: change the help in src/whisperx/arguments.py instead. -->",
        "",
        "    whisperx audio [audio ...] [options]",
        "",
        "Transcripts go to stdout, messages to stderr. Exit status: 0 all well, 1 something failed, 2 wrong usage, "
        "130 interrupted.",
    ]
    for group in parser._action_groups:
        if group._group_actions:
            title = str(group.title).capitalize()
            lines += ["", f"## {title}", "", HEAD, RULE, *map(row, group._group_actions)]
    return "\n".join(lines) + "\n"


def row(action: argparse.Action) -> str:
    names = ", ".join(f"`{name}`" for name in action.option_strings or [action.dest])
    shows_default = action.option_strings and action.default is not argparse.SUPPRESS
    cells = [names, f"`{value(action)}`" if value(action) else "", f"`{action.default}`" if shows_default else ""]
    return f"| {' | '.join(cells)} | {(action.help or '').replace('%%', '%')} |"


def value(action: argparse.Action) -> str:
    """What may follow the option."""
    if action.choices:
        return ", ".join(map(str, action.choices))
    return str(action.metavar or "") if action.nargs != 0 else ""


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8", newline="\n")
    print(f"wrote {PAGE}")
