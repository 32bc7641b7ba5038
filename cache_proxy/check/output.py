"""The report, written out."""

import json
from dataclasses import asdict

from rich.console import Console
from rich.text import Text

from cache_proxy.check.report import Report
from cache_proxy.check.words import lines


def show(report: Report) -> None:
    """Print it for people; plain text where nobody looks at a terminal."""
    console = Console(highlight=False)
    for line in lines(report):
        console.print(Text(line.text, line.style), soft_wrap=True)


def as_json(report: Report) -> str:
    """It, for programs."""
    return json.dumps({"exit_code": report.exit_code, **asdict(report)}, indent=2, ensure_ascii=False)
