"""Releases one package of the four: ``python scripts/release.py slices-heads 0.2.1 --dry-run``.

Sets the version, dates the changelog, checks that the packages' ranges admit each other, builds wheel and
sdist, and imports the wheel beside the siblings. All of it happens in a copy; only when it went well are
the two edited files and dist/ written. Nothing is committed, tagged or uploaded: that is shown, to be
typed. Needs hatchling (and packaging, which comes with it) and pip.
"""

from __future__ import annotations

import argparse
import datetime
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[1]
VERSION = re.compile(r"\d+\.\d+\.\d+")


class Refused(Exception):
    """What is asked for cannot be released; the message says why and what to do."""


def set_version(package: Path, version: str) -> None:
    """Raises ``Refused`` where the version goes back."""
    path = package / "pyproject.toml"
    text = path.read_text(encoding="utf-8")
    now = tomllib.loads(text)["project"]["version"]
    if Version(version) < Version(now):
        raise Refused(f"{shown(path)}: version {now} is above {version}: give a later one")
    path.write_text(text.replace(f'\nversion = "{now}"', f'\nversion = "{version}"', 1), encoding="utf-8")


def date_changelog(package: Path, version: str, date: str) -> None:
    """The top section, which must be of this version, undated, and say something, gets the date."""
    path = package / "CHANGELOG.md"
    text = path.read_text(encoding="utf-8")
    top = re.search(r"^## (.*)\n((?:(?!## ).*\n?)*)", text, re.MULTILINE)
    heading = f"[{version}] - unreleased"
    if top is None or top[1] != heading:
        found = f"is {top[1]!r}" if top else "is not there"
        raise Refused(f"{shown(path)}: the top section {found}: write what is new under '## {heading}'")
    if not re.search(r"^- \S", top[2], re.MULTILINE):
        raise Refused(f"{shown(path)}: nothing is said under '## {heading}': write what is new")
    path.write_text(text.replace(f"## {heading}", f"## [{version}] - {date}", 1), encoding="utf-8")


def shown(path: Path) -> str:
    """A file of a package, whatever copy it is in."""
    return f"packages/{path.parent.name}/{path.name}"


def check_ranges(packages: Path) -> None:
    """Raises ``Refused`` with all ranges that leave out the version that a sibling has."""
    paths = sorted(packages.glob("*/pyproject.toml"))
    projects = {path: tomllib.loads(path.read_text(encoding="utf-8"))["project"] for path in paths}
    versions = {project["name"]: project["version"] for project in projects.values()}
    faults = []
    for path, project in projects.items():
        extras = project.get("optional-dependencies", {}).values()
        for line in [*project.get("dependencies", []), *(line for lines in extras for line in lines)]:
            wanted = Requirement(line)
            if wanted.name in versions and not wanted.specifier.contains(versions[wanted.name]):
                faults.append(f"{shown(path)}: {line} leaves out {versions[wanted.name]}: change it")
    if faults:
        raise Refused("\n".join(faults))


def build(package: Path, out: Path, *targets: str) -> None:
    chosen = [word for target in targets for word in ("-t", target)]
    run(sys.executable, "-m", "hatchling", "build", *chosen, "-d", str(out), folder=package)


def run(*command: str, folder: Path) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise Refused(f"{' '.join(command)} failed:\n{(done.stdout + done.stderr).strip()}")


def try_wheels(packages: Path, dist: Path, name: str, version: str) -> None:
    """The wheel and those of the siblings in one folder, and all of them imported from there."""
    wheels, target = packages.parent / "wheels", packages.parent / "target"
    siblings = sorted(path for path in packages.iterdir() if path.name != name)
    for sibling in siblings:
        build(sibling, wheels, "wheel")
    files = [str(path) for folder in (dist, wheels) for path in sorted(folder.glob("*.whl"))]
    options = ("--quiet", "--no-deps", "--no-index", "--no-compile", "--target", str(target))
    run(sys.executable, "-m", "pip", "install", *options, *files, folder=packages)
    modules = [name.replace("-", "."), *(path.name.replace("-", ".") for path in siblings)]
    code = f"""
import importlib, importlib.metadata, sys
sys.path.insert(0, {str(target)!r})
for name in {modules}:
    module = importlib.import_module(name)
    assert module.__file__.startswith({str(target)!r}), module.__file__
    [getattr(module, public) for public in module.__all__]
assert importlib.metadata.version({name!r}) == {version!r}
"""
    run(sys.executable, "-I", "-c", code, folder=target)


def release(name: str, version: str, date: str, *, dry: bool) -> list[Path]:
    """What was built, or would be. Raises ``Refused``; then nothing was written."""
    if not VERSION.fullmatch(version):
        raise Refused(f"version {version!r}: three numbers, as in 0.2.1")
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        for part in ("packages", "configs"):  # slices-training ships the latter
            shutil.copytree(ROOT / part, copy / part, ignore=shutil.ignore_patterns("__pycache__"))
        package, dist = copy / "packages" / name, copy / "dist"
        set_version(package, version)
        date_changelog(package, version, date)
        check_ranges(copy / "packages")
        build(package, dist, "sdist", "wheel")
        try_wheels(copy / "packages", dist, name, version)
        built = [ROOT / "dist" / path.name for path in sorted(dist.iterdir())]
        if not dry:
            for file in ("pyproject.toml", "CHANGELOG.md"):
                shutil.copyfile(package / file, ROOT / "packages" / name / file)
            shutil.copytree(dist, ROOT / "dist", dirs_exist_ok=True)
    return built


def main() -> None:
    names = sorted(path.parent.name for path in ROOT.glob("packages/*/pyproject.toml"))
    parser = argparse.ArgumentParser(description="Releases one package.")
    parser.add_argument("package", choices=names)
    parser.add_argument("version", help="three numbers, as in 0.2.1")
    parser.add_argument("--date", default=datetime.date.today().isoformat(), help="default: today")
    parser.add_argument("--dry-run", action="store_true", help="do all of it in a copy alone")
    given = parser.parse_args()
    try:
        built = release(given.package, given.version, given.date, dry=given.dry_run)
    except Refused as error:
        sys.exit(f"not released: {error}")
    print("it would build" if given.dry_run else "built", *(path.relative_to(ROOT) for path in built))
    tag = f"{given.package}-{given.version}"
    print(f"next: git commit -am '{tag}' && git tag {tag} && git push --tags, then upload both files")


if __name__ == "__main__":
    main()
