"""archive_command's client: `python3 -I -S archive_client.py SOCKET PATH [PATIENCE_SECONDS]`.

It hands one WAL file's path to the agent and waits for its word. Separate, and standard library only, because Postgres
starts it once per segment: it has to be up in some 10 ms. Exit 0 means durable in the local site's bucket and nothing
else; any trouble is exit 1 with one line on stderr, after which Postgres keeps the file and asks again.
"""

import sys

try:  # what `os` and `socket` are made of: importing these two costs as much as the rest of the start
    import _socket as socket
    from posix import getcwd as here
except ImportError:
    import socket  # type: ignore[no-redef]
    from os import getcwd as here

PATIENCE_SECONDS = 60.0


def main(argv: list[str]) -> int:
    """Ask, wait, tell. Returns the exit code."""
    if len(argv) not in (3, 4):
        return trouble("archive_client.py takes SOCKET and PATH", "set archive_command to 'python3 -I -S … SOCK %p'")
    try:
        path = argv[2] if argv[2].startswith("/") else f"{here()}/{argv[2]}"  # noqa: PTH109 -- pathlib costs this client a third of its start
        said = ask(argv[1], path, float(argv[3]) if len(argv) == 4 else PATIENCE_SECONDS)
    except TimeoutError:
        return trouble("the agent did not answer in time", "see `dr agent status`; Postgres will ask again")
    except (OSError, ValueError) as error:
        return trouble(f"the agent can't be asked: {error}", "start it: dr agent run --config FILE")
    if said == b"ok\n":
        return 0
    fact, _, hint = said.decode("utf-8", "replace").strip().partition("\0")
    return trouble(fact or "the agent hung up", hint or "see `dr agent status`; Postgres will ask again")


def ask(where: str, path: str, patience: float) -> bytes:
    """The agent's whole answer."""
    line = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    line.settimeout(patience)
    line.connect(where)
    line.sendall(b"archive\0" + path.encode(sys.getfilesystemencoding(), "surrogateescape") + b"\0")
    answer = b""
    while not answer.endswith(b"\n") and len(answer) < 65536:
        piece = line.recv(4096)
        if not piece:
            break
        answer += piece
    return answer


def trouble(fact: str, hint: str) -> int:
    """One line for Postgres's log, exit 1."""
    sys.stderr.write(f"{fact}; hint: {hint}\n")
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv))
