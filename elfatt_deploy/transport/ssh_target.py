"""Which machine `ssh://[user@]host[:port]` means, and what it means when ssh cannot reach it."""

from __future__ import annotations

import dataclasses
import re
import urllib.parse
from collections.abc import Callable

from elfatt_deploy.errors import ConnectError, UsageError

_HINT = "write ssh://[user@]host[:port], or ssh://NAME for a Host of your ssh configuration"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class SshTarget:
    """A machine as ssh takes it.

    Args:
        host: its name, its address or a Host of the user's ssh configuration.
        user: who to be there; empty for whom the configuration says.
        port: None for the one that the configuration says.
    """

    host: str
    user: str = ""
    port: int | None = None

    @property
    def name(self) -> str:
        """The machine, in a message."""
        return f"{self.address}:{self.port}" if self.port else self.address

    @property
    def address(self) -> str:
        """User and host, without the port."""
        return f"{self.user}@{self.host}" if self.user else self.host

    @property
    def options(self) -> tuple[str, ...]:
        """The arguments of ssh that name it."""
        return (*(("-p", str(self.port)) if self.port else ()), self.address)

    @property
    def typed(self) -> str:
        """The same as one types it after `ssh` or `ssh-copy-id`."""
        return " ".join(self.options)

    @property
    def known_as(self) -> str:
        """The machine as known_hosts names it."""
        return f"[{self.host}]:{self.port}" if self.port not in (None, 22) else self.host


def parse_target(device: str) -> SshTarget:
    """Return the machine that `ssh://[user@]host[:port]` names.

    Raises:
        UsageError: it is not of this form, or has a password.
    """
    try:
        parts = urllib.parse.urlsplit(device)
        port = parts.port
    except ValueError as error:
        raise UsageError(f"'{device}' is no SSH address: {error}", hint=_HINT) from error
    if parts.password is not None:
        raise UsageError(
            "an SSH address must not have a password: it would be seen in lists and logs",
            hint="use a key: 'ssh-copy-id USER@HOST' puts yours there",
        )
    # the host from the text itself: urlsplit writes it in lower case
    user, _, rest = parts.netloc.rpartition("@")
    host = rest[1:].partition("]")[0] if rest.startswith("[") else rest.partition(":")[0]
    extra = parts.path.strip("/") or parts.query or parts.fragment
    if parts.scheme != "ssh" or extra or port == 0 or not all(map(_safe, (host, user or "x"))):
        raise UsageError(f"'{device}' is no SSH address", hint=_HINT)
    return SshTarget(host=host, user=user, port=port)


def _safe(word: str) -> bool:
    """Whether ssh cannot take it for an option, nor a shell for anything but a word."""
    return re.fullmatch(r"[\w.:%][\w.:%+-]*", word) is not None


@dataclasses.dataclass(frozen=True, slots=True)
class _Failure:
    """What ssh says, and what that means.

    Args:
        pattern: found in what it says.
        message: what failed, after the machine's name.
        hint: what to do next; a target goes in.
        passes: it may be gone by itself, say when the machine has started.
    """

    pattern: str
    message: str
    hint: Callable[[SshTarget], str]
    passes: bool = True


_FAILURES = (
    _Failure(
        r"REMOTE HOST IDENTIFICATION HAS CHANGED|Host key for .* has changed",
        "shows another host key than the one known: it was set up anew, or it is another machine",
        lambda target: (
            "if it was set up anew, forget the old key and accept the new one: "
            f"ssh-keygen -R '{target.known_as}'; ssh {target.typed}"
        ),
        passes=False,
    ),
    _Failure(
        r"Host key verification failed|No \S+ host key is known",
        "is not known to this machine yet: its host key has never been accepted",
        lambda target: f"type 'ssh {target.typed}' once, compare the fingerprint, and answer yes",
        passes=False,
    ),
    _Failure(
        r"Too many authentication failures",
        "refused before the right key was tried: the SSH agent offered too many others",
        lambda target: (
            f"name the key for {target.host} in ~/.ssh/config: IdentityFile, IdentitiesOnly yes"
        ),
    ),
    _Failure(
        r"Permission denied \(",
        "refuses the key of this user, and passwords are never asked for",
        lambda target: (
            f"put your key there: ssh-copy-id {target.typed} (ssh-keygen makes one); "
            "a key with a passphrase must be in the agent: ssh-add"
        ),
    ),
    _Failure(
        r"Could not resolve hostname",
        "is a name that this machine cannot resolve",
        lambda target: (
            f"check how {target.host} is written, or name its address: ssh://user@192.0.2.7"
        ),
    ),
    _Failure(
        r"Connection refused",
        "is there, but takes no SSH connections",
        lambda target: (
            "start its server: 'sudo systemctl enable --now ssh' on the board; check the port"
        ),
    ),
    _Failure(
        r"timed out|No route to host|Network is unreachable|Host is down",
        "does not answer",
        lambda target: (
            "check that it is switched on and in this network: "
            f"ping {target.host}; then ssh {target.typed}"
        ),
    ),
    _Failure(
        r"Connection (closed|reset)|kex_exchange_identification|banner exchange",
        "closed the connection before it stood",
        lambda target: (
            f"try again in a moment; if it stays so, look at what it logs: ssh -v {target.typed}"
        ),
    ),
)


def connect_error(target: SshTarget, said: str) -> tuple[ConnectError, bool]:
    """Return the error for what ssh said, and whether it may be gone by itself.

    Args:
        target: whom it tried to reach.
        said: all that ssh wrote to stderr.
    """
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    for failure in _FAILURES:
        told = [line for line in lines if re.search(failure.pattern, line)]
        if told:
            text = f"{target.name} {failure.message} (ssh: {told[0].strip('@ ')})"
            return ConnectError(text, hint=failure.hint(target)), failure.passes
    last = lines[-1] if lines else "it said nothing"
    return ConnectError(f"cannot connect to {target.name} (ssh: {last})"), True
