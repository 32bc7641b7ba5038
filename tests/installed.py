"""Distributions as an installer leaves them: modules, and a folder that says which entry points they have."""

from collections.abc import Mapping
from pathlib import Path

from cache_proxy.settings.plugins import GROUP


def install(folder: Path, distribution: str, points: Mapping[str, str], modules: Mapping[str, str]) -> None:
    """Install a distribution in ``folder``, which must be on ``sys.path``: ``points`` are its backends by name."""
    for name, source in modules.items():
        (folder / f"{name}.py").write_text(source)
    info = folder / f"{distribution.replace('-', '_')}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n")
    lines = [f"[{GROUP}]", *(f"{name} = {value}" for name, value in points.items())]
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n")
