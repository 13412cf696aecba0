"""The offline bundle: what goes in, what is believed, and the home that it becomes on a machine that has nothing."""

from __future__ import annotations

import re
import shutil
import subprocess
import zipfile
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from deployments.cli.bundle import by_bundle
from deployments.cli.main import run as dr
from recovery.errors import BadInput, Refused
from tasks import bundle, bundled, bundling, keys
from tasks.bundle import BundleManifest
from tasks.home import Home, open_home
from tasks.keys import engine_fingerprints
from tests.thought.failover_scene import EXAMPLE

NOW = datetime(2026, 11, 24, 3, 0, tzinfo=UTC)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    """The example's home with keys of its own; nobody answers, and a secret lies beside the catalog."""
    folder = tmp_path / "home"
    text = EXAMPLE.read_text()
    for name in ("ann", "bob", "eve", "engine"):
        card = keys.make(folder / "keys", name, "engine" if name == "engine" else "approver")
        text = re.sub(
            rf"(^    {name}:\n      key: )[0-9a-f]{{64}}", rf"\g<1>{card.fingerprint}", text, flags=re.MULTILINE
        )
    (folder / "catalog.yaml").write_text(text)
    monkeypatch.setattr(bundling, "_seen", lambda home: ({"seen": {}}, {}, ("database orders: no answer",)))
    return open_home(folder, now=lambda: NOW)


@pytest.fixture
def made(home: Home, tmp_path: Path) -> Path:
    """Its bundle."""
    return bundling.make(home, tmp_path / "b.zip").path


def trusted(home: Home) -> frozenset[str]:
    return engine_fingerprints(home.folder / "keys")


def rewritten(path: Path, change: Callable[[dict[str, bytes]], object]) -> Path:
    """The zip with its files changed, as somebody would who has no key."""
    with zipfile.ZipFile(path) as old:
        files = {name: old.read(name) for name in old.namelist()}
    change(files)
    with zipfile.ZipFile(path, "w") as new:
        for name, body in files.items():
            new.writestr(name, body)
    return path


def test_it_holds_all_that_acting_needs_and_every_printed_page(home: Home, made: Path) -> None:
    found = bundle.read(made, trusted=trusted(home), now=NOW)
    assert found.files["catalog.yaml"] == (home.folder / "catalog.yaml").read_bytes()
    assert {"failover", "failback", "switchover"} <= set(found.manifest.runbooks)
    for name in found.manifest.runbooks:
        assert f"runbooks/{name}.yaml" in found.files
    assert b"psql" in found.files["pages/failover.md"]
    assert found.files["pages/failover.html"].startswith(b"<!")
    assert {"README.md", "cached.json", "keys/ann.pub", "keys/engine.pub"} <= set(found.files)
    assert f"public/{found.manifest.key}.pem" in found.files


def test_it_holds_no_secret(home: Home, made: Path) -> None:
    private = [file.read_bytes() for file in (home.folder / "keys").glob("*.ed25519")]
    assert private
    for body in bundle.read(made, trusted=trusted(home), now=NOW).files.values():
        assert b"PRIVATE KEY" not in body
        assert not any(each in body for each in private)


@pytest.mark.parametrize(
    "secret",
    [
        "host=db password=hunter2",
        "host=db password = 'hunter 2'",
        'PASSWORD="hunter2"',
        "postgresql://dr:hunter2@db/x",
        "postgresql://:hunter2@db/x",
        "session_token: hunter2",
    ],
)
def test_a_catalog_with_a_password_in_it_is_refused_with_its_line(home: Home, tmp_path: Path, secret: str) -> None:
    with (home.folder / "catalog.yaml").open("a") as more:
        more.write(f"\n# {secret}\n")
    with pytest.raises(BadInput, match=r"catalog\.yaml:\d+ holds what looks like a secret") as raised:
        bundling.make(home, tmp_path / "b.zip")
    assert "passfile" in raised.value.hint
    assert "hunter2" not in str(raised.value)


def test_a_connection_string_with_a_secret_in_any_form_is_refused(home: Home, tmp_path: Path) -> None:
    name, database = next(iter(home.catalog.resources.items()))
    spoiled = database.members["east"].but(dsn="host=h scram_client_key=hunter2")
    resources = {**home.catalog.resources, name: database.but(members={**database.members, "east": spoiled})}
    home = replace(home, catalog=home.catalog.but(resources=resources))
    with pytest.raises(BadInput, match=f"the dsn of {name} at east holds a secret") as raised:
        bundling.make(home, tmp_path / "b.zip")
    assert "hunter2" not in str(raised.value)
    assert not (tmp_path / "b.zip").exists()


def test_the_same_content_is_the_same_file(home: Home, made: Path) -> None:
    before = made.read_bytes()
    assert bundling.make(home, made).path.read_bytes() == before


CHANGES: dict[str, Callable[[dict[str, bytes]], object]] = {
    "catalog.yaml was changed": lambda files: files.update({"catalog.yaml": files["catalog.yaml"] + b"#"}),
    "runbooks/failover.yaml is missing": lambda files: files.pop("runbooks/failover.yaml"),
    "runbooks/evil.yaml does not belong": lambda files: files.update({"runbooks/evil.yaml": b"x"}),
    "its signature is not valid": lambda files: files.update({"manifest.sig": bytes(64)}),
    "names that no bundle has": lambda files: files.update({"../../etc/passwd": b"x"}),
    "its manifest cannot be read": lambda files: files.update({"manifest.json": b"{}"}),
}


@pytest.mark.parametrize("what", CHANGES)
def test_whatever_was_changed_is_refused_by_name(home: Home, made: Path, what: str) -> None:
    rewritten(made, CHANGES[what])
    with pytest.raises(Refused, match=re.escape(what)) as raised:
        bundle.read(made, trusted=trusted(home), now=NOW)
    assert "do not use it" in raised.value.hint


def test_a_manifest_that_was_made_anew_is_signed_by_nobody_who_is_trusted(
    home: Home, made: Path, tmp_path: Path
) -> None:
    thief = keys.make(tmp_path / "thief", "engine", "engine")
    draft = bundle.read(made, trusted=trusted(home), now=NOW)
    sign = keys.signer(tmp_path / "thief", "engine")
    files = {**draft.files, f"public/{thief.fingerprint}.pem": sign.public_pem}
    bundle.write(made, draft.manifest, files, sign)
    with pytest.raises(Refused, match="not trusted here"):
        bundle.read(made, trusted=trusted(home), now=NOW)
    with pytest.raises(Refused, match="nobody has said whose signature to believe"):
        bundle.read(made, trusted=(), now=NOW)


def test_a_cut_off_download_is_refused(home: Home, made: Path) -> None:
    made.write_bytes(made.read_bytes()[:-2000])
    with pytest.raises(Refused, match="cannot be read whole"):
        bundle.read(made, trusted=trusted(home), now=NOW)


@pytest.mark.parametrize("place", ["before", "behind"])
def test_bytes_that_belong_to_no_file_of_it_are_refused(home: Home, made: Path, place: str) -> None:
    whole = made.read_bytes()
    made.write_bytes(b"x" + whole if place == "before" else whole + b"x")
    with pytest.raises(Refused, match="bytes that belong to none of its files"):
        bundle.read(made, trusted=trusted(home), now=NOW)


def test_a_stale_one_is_refused_unless_people_say_so(home: Home, made: Path) -> None:
    later = NOW + timedelta(days=8)
    with pytest.raises(Refused, match="8 days old") as raised:
        bundle.read(made, trusted=trusted(home), now=later)
    assert "--stale" in raised.value.hint
    assert bundle.read(made, trusted=trusted(home), now=later, stale=True).manifest.made_at == NOW
    assert bundle.read(made, trusted=trusted(home), now=NOW + timedelta(days=6))


def test_stock_tools_verify_it(made: Path, tmp_path: Path) -> None:
    folder = tmp_path / "by hand"
    with zipfile.ZipFile(made) as packed:
        packed.extractall(folder)
    manifest = BundleManifest.model_validate_json((folder / "manifest.json").read_bytes())
    sums = subprocess.run(["sha256sum", "-c", "SHA256SUMS"], cwd=folder, capture_output=True, check=False)
    assert sums.returncode == 0, sums.stdout
    if shutil.which("openssl") is None:
        pytest.skip("there is no openssl here")
    words = ["openssl", "pkeyutl", "-verify", "-pubin", "-inkey", f"public/{manifest.key}.pem", "-rawin"]
    words += ["-in", "manifest.json", "-sigfile", "manifest.sig"]
    assert subprocess.run(words, cwd=folder, capture_output=True, check=False).returncode == 0


def operator(home: Home, tmp_path: Path) -> Path:
    """A machine with the operator's keys and the home's public engine key, and nothing else."""
    own = tmp_path / "laptop"
    keys.make(own / "keys", "engine-ann", "engine")
    for name in ("ann.ed25519", "ann.pub"):
        shutil.copy2(home.folder / "keys" / name, own / "keys" / name)
    shutil.copy2(home.folder / "keys" / "engine.pub", own / "keys" / "engine.pub")
    return own


def test_unpacked_it_is_a_home_with_the_operators_keys_and_no_copy_of_them(
    home: Home, made: Path, tmp_path: Path
) -> None:
    own = operator(home, tmp_path)
    folder = bundled.unpack(made, own=own, now=NOW, cache=tmp_path / "cache")
    there = open_home(folder)
    assert there.catalog.name == home.catalog.name
    assert there.signer().fingerprint == keys.signer(own / "keys", "engine-ann").fingerprint
    assert keys.signer(folder / "keys", "ann").fingerprint == keys.signer(own / "keys", "ann").fingerprint
    assert all(file.is_symlink() for file in (folder / "keys").glob("*.ed25519"))
    assert home.signer().fingerprint in engine_fingerprints(folder / "keys"), "what the home signed stays believed"
    assert folder.stat().st_mode & 0o077 == 0
    assert bundled.can_act(folder)


def test_what_somebody_changed_in_the_cache_is_not_used(home: Home, made: Path, tmp_path: Path) -> None:
    own = operator(home, tmp_path)
    folder = bundled.unpack(made, own=own, now=NOW, cache=tmp_path / "cache")
    (folder / "catalog.yaml").write_text("x")
    again = bundled.unpack(made, own=own, now=NOW, cache=tmp_path / "cache")
    assert again == folder
    assert (again / "catalog.yaml").read_bytes() == (home.folder / "catalog.yaml").read_bytes()


def test_a_relative_reference_counts_from_the_operators_folder(home: Home, made: Path, tmp_path: Path) -> None:
    text = (home.folder / "catalog.yaml").read_text()
    first = re.search(r"credentials: \S+", text)
    assert first is not None
    fresh = text.replace(first[0].rstrip("},"), "credentials: file:secrets/s3.json", 1)
    (home.folder / "catalog.yaml").write_text(fresh)
    bundling.make(open_home(home.folder, now=lambda: NOW), made)
    own = operator(home, tmp_path)
    (own / "secrets").mkdir()
    (own / "secrets" / "s3.json").write_text("{}")
    folder = bundled.unpack(made, own=own, now=NOW, cache=tmp_path / "cache")
    assert (folder / "secrets" / "s3.json").resolve() == (own / "secrets" / "s3.json").resolve()


def test_two_engines_keys_are_a_question(home: Home, made: Path, tmp_path: Path) -> None:
    own = operator(home, tmp_path)
    keys.make(own / "keys", "engine-bob", "engine")
    with pytest.raises(BadInput, match="several engine's keys: engine-ann, engine-bob"):
        bundled.unpack(made, own=own, now=NOW, cache=tmp_path / "cache")
    chosen = own / "keys" / "engine-bob.ed25519"
    folder = bundled.unpack(made, own=own, keys=[chosen], now=NOW, cache=tmp_path / "cache")
    assert open_home(folder).signer().fingerprint == keys.signer(own / "keys", "engine-bob").fingerprint


def test_a_home_whose_ledger_is_a_folder_makes_no_bundle(home: Home, tmp_path: Path) -> None:
    text = (home.folder / "catalog.yaml").read_text()
    text = re.sub(r"^  home: witness$", "  home: directory:ledger", text, flags=re.MULTILINE)
    text = re.sub(r"^  mirrors: \[west, east\]$", "  mirrors: []", text, flags=re.MULTILINE)
    (home.folder / "catalog.yaml").write_text(text)
    with pytest.raises(BadInput, match="no other machine could act"):
        bundling.make(open_home(home.folder), tmp_path / "b.zip")


def test_any_command_takes_it_and_acting_without_an_engines_key_says_what_is_missing(
    home: Home, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("DR_HOME", str(tmp_path / "nothing"))
    trust = ["--trust", home.signer().fingerprint]
    assert dr(["runbook", "list", "--json", "--bundle", str(made), *trust, "--stale"]) == 0
    assert "failover" in capsys.readouterr().out
    assert dr(["act", "0123456789", "--glass", f"--bundle={made}", *trust, "--stale"]) == 2
    said = capsys.readouterr().err
    assert "no agent would obey this machine" in said
    assert "dr keys make engine-NAME" in said
    with by_bundle(["plan", "failover", "--bundle", str(made), *trust, "--stale", "--to", "west"]) as rest:
        assert rest == ["plan", "failover", "--to", "west"]


def test_verify_says_whose_it_is(
    home: Home, made: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DR_HOME", str(home.folder))
    assert dr(["bundle", "--verify", str(made), "--stale"]) == 0
    assert home.signer().fingerprint in capsys.readouterr().out
    rewritten(made, CHANGES["catalog.yaml was changed"])
    assert dr(["bundle", "--verify", str(made), "--stale"]) == 4
    assert "is not as it was signed: catalog.yaml was changed" in capsys.readouterr().err
