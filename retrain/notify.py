"""How a night ended goes to whoever has to know, and no notice of it is lost.

    RUN ends ─► OUTBOX/<notice>.json, synced ─► command, webhook, file ─► the notice is removed when all have taken it

A notice is in the outbox before anybody is told, so whatever happens next, this start or a later one delivers it. It
may come twice, never not at all: its `id` says which one it is, and the webhook's header `Idempotency-Key` says so too.
"""

import contextlib
import json
import shlex
import subprocess
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from plumbline.errors import InvalidSetting
from retrain.manifest import Manifest, write_whole

TRIES: Final = 3
PAUSES_SECONDS: Final = (1.0, 4.0)
"""Before the second try and the third."""
TIMEOUT_SECONDS: Final = 20.0
KEPT_MOST: Final = 1000
"""Notices that wait, of which the oldest goes when there are more: a hook that is never mended fills no disk."""


@dataclass(frozen=True, slots=True)
class Hooks:
    """Whom to tell; each may be empty. Raises InvalidSetting for an address that is no http(s) one.

    command: run without a shell, with the notice on its standard input; url: gets it by POST; token: sent with it as
    `Authorization: Bearer`; file: gets it as a further line; verdicts: about which there is a notice at all.
    """

    command: str = ""
    url: str = ""
    token: str = ""
    file: str = ""
    verdicts: frozenset[str] = frozenset({"failed", "refused", "registered", "shadowed"})

    def __post_init__(self) -> None:
        if self.url and not self.url.startswith(("https://", "http://")):
            raise InvalidSetting("environment", "PLUMBLINE_NOTIFY_URL", self.url, "an https:// or http:// address")

    def named(self) -> list[str]:
        """Names of those that are set."""
        return [name for name in ("command", "url", "file") if getattr(self, name)]


def notice(manifest: Manifest) -> dict[str, Any]:
    """What is said of a run that ended, for now or for good: words first, then where to look."""
    checks = manifest.of("gate").facts.get("failed_checks", []) if any(e.name == "gate" for e in manifest.steps) else []
    stays = "nothing changes" if manifest.champion is None else f"version {manifest.champion} stays"
    words = {
        "shadowed": f"version {manifest.version} scores beside version {manifest.champion} from now on",
        "registered": f"version {manifest.version} is a candidate, and waits for people",
        "refused": f"the gate refused the candidate, and {stays}: {manifest.error}",
        "failed": f"step {manifest.step} failed, and nothing changed: {manifest.error}",
        "stopped": f"stopped in step {manifest.step or '-'}, and goes on when started again: {manifest.error}",
        "running": "at work",
    }[manifest.verdict]
    return {
        "id": f"{manifest.run}-{manifest.attempts}-{manifest.verdict}",
        "run": manifest.run, "verdict": manifest.verdict, "text": f"Night {manifest.run}: {words}",
        "step": manifest.step, "error": manifest.error, "version": manifest.version, "champion": manifest.champion,
        "failed_checks": checks, "at": manifest.updated_at, "seconds": round(manifest.seconds, 1),
        "host": manifest.host,
    }  # fmt: skip


def put(outbox: Path, manifest: Manifest, hooks: Hooks) -> bool:
    """Put a notice of a run into the outbox, if anybody wants it; whether there is one. Raises OSError."""
    if not hooks.named() or manifest.verdict not in hooks.verdicts:
        return False
    outbox.mkdir(parents=True, exist_ok=True)
    facts = notice(manifest)
    waiting = {"notice": facts, "hooks": hooks.named()}
    write_whole(outbox / f"{manifest.updated_at}-{facts['id']}.json", json.dumps(waiting, indent=2).encode())
    for old in sorted(outbox.glob("*.json"))[:-KEPT_MOST]:
        old.unlink()
    return True


def deliver(
    outbox: Path, hooks: Hooks, wait: Callable[[float], None], tell: Callable[[str], None] = lambda text: None
) -> int:
    """Deliver what waits, the oldest first; how many still wait.

    wait: sleeps so many seconds between tries; tell: called with a sentence for each hook that took nothing.
    A hook that fails leaves the others alone; it is asked again with the next start.
    """
    dead: set[str] = set()
    for file in sorted(outbox.glob("*.json")):
        try:
            waiting = json.loads(file.read_bytes())
            named, facts = list(waiting["hooks"]), waiting["notice"]
        except (OSError, ValueError, KeyError, TypeError):
            tell(f"{file.name} in the outbox is no notice, and is left alone")
            continue
        left = [name for name in named if name in hooks.named()]
        for name in list(left):
            error = None if name in dead else _tried(name, facts, hooks, wait)
            if name in dead:
                continue
            if error is None:
                left.remove(name)
                write_whole(file, json.dumps({"notice": facts, "hooks": left}, indent=2).encode())
            else:
                dead.add(name)
                tell(f"the {name} hook took nothing, and is asked again with the next start: {error}")
        if not left:
            with contextlib.suppress(FileNotFoundError):
                file.unlink()
    return len(list(outbox.glob("*.json")))


def _tried(name: str, facts: Mapping[str, Any], hooks: Hooks, wait: Callable[[float], None]) -> str | None:
    """Hand a notice to one hook; why it took nothing after all tries, None when it did."""
    calls: Mapping[str, Callable[[], None]] = {
        "command": lambda: _run(shlex.split(hooks.command), facts),
        "url": lambda: _post(hooks, facts),
        "file": lambda: _append(Path(hooks.file), facts),
    }
    error = ""
    for pause in (0.0, *PAUSES_SECONDS):
        if pause:
            wait(pause)
        try:
            calls[name]()
        except (OSError, ValueError, subprocess.SubprocessError) as reason:
            error = " ".join(str(reason).split())
            if (
                isinstance(reason, urllib.error.HTTPError)
                and 400 <= reason.code < 500
                and reason.code not in {408, 429}
            ):
                break  # it will say the same again
        else:
            return None
    return error


def _run(words: Sequence[str], facts: Mapping[str, Any]) -> None:
    subprocess.run(words, input=json.dumps(facts).encode(), check=True, capture_output=True, timeout=TIMEOUT_SECONDS)


class _Stay(urllib.request.HTTPRedirectHandler):
    """A POST that is sent elsewhere becomes a GET without a body: it counts as refused instead."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


def _post(hooks: Hooks, facts: Mapping[str, Any]) -> None:
    headers = {"Content-Type": "application/json", "Idempotency-Key": str(facts["id"]), "User-Agent": "plumbline"}
    if hooks.token:
        headers["Authorization"] = f"Bearer {hooks.token}"
    request = urllib.request.Request(hooks.url, json.dumps(facts).encode(), headers, method="POST")  # noqa: S310
    with urllib.request.build_opener(_Stay).open(request, timeout=TIMEOUT_SECONDS) as answer:
        answer.read(1024)


def _append(file: Path, facts: Mapping[str, Any]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a", encoding="utf-8") as opened:
        opened.write(json.dumps(facts) + "\n")
        opened.flush()
