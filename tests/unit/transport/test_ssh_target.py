"""SSH addresses, and what ssh's words mean."""

from __future__ import annotations

import pytest

from elfatt_deploy.errors import UsageError
from elfatt_deploy.transport.ssh_target import SshTarget, connect_error, parse_target


@pytest.mark.parametrize(
    ("device", "user", "host", "port", "name", "typed"),
    [
        ("ssh://orin", "", "orin", None, "orin", "orin"),
        ("ssh://orin/", "", "orin", None, "orin", "orin"),
        ("ssh://nvidia@192.168.55.1", "nvidia", "192.168.55.1", None, *["nvidia@192.168.55.1"] * 2),
        ("ssh://me@Orin.local:2222", "me", "Orin.local", 2222, "me@Orin.local:2222",
         "-p 2222 me@Orin.local"),
        ("ssh://me@[fe80::1%eth0]:22", "me", "fe80::1%eth0", 22, "me@fe80::1%eth0:22",
         "-p 22 me@fe80::1%eth0"),
        ("ssh://[::1]", "", "::1", None, "::1", "::1"),
        ("ssh://jetson_lab-3", "", "jetson_lab-3", None, "jetson_lab-3", "jetson_lab-3"),
    ],
)  # fmt: skip
def test_an_address(device, user, host, port, name, typed):
    target = parse_target(device)
    assert target == SshTarget(user=user, host=host, port=port)
    assert (target.name, target.typed) == (name, typed)


@pytest.mark.parametrize(
    "device",
    ["ssh://", "ssh://user@", "ssh:orin", "http://orin", "ssh://a:port", "ssh://a:70000", "ssh://a:0",
     "ssh://-oProxyCommand=id", "ssh://-x@a", "ssh://a b", "ssh://a;id", "ssh://a/folder",
     "ssh://a?x", "ssh://$HOME", "ssh://[::1"],
)  # fmt: skip
def test_what_is_no_address_says_how_one_is_written(device):
    with pytest.raises(UsageError) as caught:
        parse_target(device)
    assert "ssh://[user@]host[:port]" in caught.value.hint


def test_a_password_is_refused_and_not_repeated():
    with pytest.raises(UsageError, match="must not have a password") as caught:
        parse_target("ssh://me:secret@orin")
    assert "secret" not in str(caught.value)
    assert "ssh-copy-id" in caught.value.hint


TARGET = SshTarget(user="me", host="orin", port=2222)


@pytest.mark.parametrize(
    ("said", "message", "hint", "passes"),
    [
        ("ssh: Could not resolve hostname orin: Name or service not known", "cannot resolve",
         "name its address", True),
        ("ssh: connect to host orin port 2222: No route to host", "does not answer", "ping orin",
         True),
        ("Received disconnect from 192.0.2.7 port 22:2: Too many authentication failures",
         "offered too many", "IdentitiesOnly yes", True),
        ("kex_exchange_identification: Connection closed by remote host", "before it stood",
         "ssh -v -p 2222 me@orin", True),
        ("No ED25519 host key is known for orin and you have requested strict checking.\n"
         "Host key verification failed.", "not known to this machine", "type 'ssh -p 2222 me@orin'",
         False),
        ("@@@@\n@    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @\n"
         "Host key verification failed.", "another host key", "ssh-keygen -R '[orin]:2222'", False),
        ("something new", "cannot connect to me@orin:2222 (ssh: something new)", "by hand", True),
        ("", "it said nothing", "by hand", True),
    ],
    ids=lambda value: value[:20] if isinstance(value, str) else None,
)  # fmt: skip
def test_each_word_of_ssh_becomes_an_error_with_a_next_step(said, message, hint, passes):
    error, may_pass = connect_error(TARGET, said)
    assert "me@orin:2222" in error.message
    assert message in error.message
    assert hint in error.hint
    assert (may_pass, error.exit_code) == (passes, 4)
