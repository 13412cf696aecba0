"""What may be shown of a connection string: everything but its secrets, in whatever way they were written into it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.pq import Conninfo

from recovery.contradictions_of_secrets import of_secrets
from recovery.doors import RoutingCluster
from recovery.dsn import KNOWN, SECRETS, dsn, shown
from recovery.failover import Asked, Proposal, propose
from recovery.names import names
from tests.thought import failover_scene as scene

P = "S3CR3T"


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (f"host=h password={P} user=u", "host=h user=u"),
        (f"host=h password = {P} user=u", "host=h user=u"),
        (f"host=h password = '{P} a\\'{P}' user=u", "host=h user=u"),
        (f"password='{P}'user=u", "user=u"),
        (f"password='{P}\\\\' user=u", "user=u"),
        (f"host=h password={P}\\ {P} user=x", "host=h user=x"),
        (f"host=h sslpassword={P} sslkey=/k", "host=h sslkey=/k"),
        (f"host=h scram_client_key={P}", "host=h"),
        (f"host=h oauth_client_secret={P}", "host=h"),
        ("host=h passfile='/a b/pass'", "host=h passfile='/a b/pass'"),
        ("host=h password='' user=u", "host=h user=u"),
        (f"postgresql://u:{P}@h/db?ssl=true", "postgresql://u@h/db?ssl=true"),
        (f"postgres://:{P}@h/db", "postgres://h/db"),
        (f"postgresql://u:{P}:{P}?{P}@h/db", "postgresql://u@h/db"),
        (f"postgresql://u@h/db?password={P}&sslmode=require", "postgresql://u@h/db?sslmode=require"),
        (f"postgresql://u@h/db?sslpassword={P}", "postgresql://u@h/db"),
        ("postgresql://u@h:1,[::1]:2/db", "postgresql://u@h:1,[::1]:2/db"),
        ("postgresql:///db?host=/run", "postgresql:///db?host=/run"),
        ("postgresql://", "postgresql://"),
    ],
)
def test_the_secrets_are_left_out_and_the_rest_stays(text: str, wanted: str) -> None:
    assert shown(text) == wanted
    assert bool(dsn(text).secrets) is ("passfile" not in text and text != wanted)


@pytest.mark.parametrize(
    "text",
    [
        f"host=h password={P} {P}",
        f"host=h password='{P}",
        f"postgresql://u:%zz{P}@h/db",
        f"postgresql://u:{P}/{P}@h/db",
        f"postgresql://u@h:{P}/db",
        f"postgresql://u@[::1/{P}",
        f"host=h port={P}",
        f"host=h pasword={P}",
        f"PASSWORD={P}",
        f"postgresql://u@h/db?pasword={P}",
        P,
    ],
)
def test_one_that_cannot_be_read_is_told_without_a_word_of_it(text: str) -> None:
    with pytest.raises(ValueError, match="it") as caught:
        dsn(text)
    assert P not in str(caught.value)
    assert P not in shown(text)
    catalog = scene.catalog()
    name, database = next(iter(catalog.resources.items()))
    east = database.members["east"].but(dsn=text)
    broken = catalog.but(resources={name: database.but(members={"east": east})})
    ((path, fact, hint),) = of_secrets(broken)
    assert path[-1] == "dsn"
    assert P not in fact + hint
    told = names(broken, service="core", resource=name, source="east", target="west")
    assert P not in str(told)
    assert told["from.port"] == ("5432",)


@pytest.mark.parametrize("book", ["failover", "switchover", "drill"])
@pytest.mark.parametrize("text", [f"host=h password = '{P}'", f"postgresql://:{P}@h/db", f"host=h pasword={P}"])
def test_no_plan_carries_a_password_into_a_ledger_that_nobody_can_erase(book: str, text: str) -> None:
    catalog = scene.catalog()
    name, database = next(iter(catalog.resources.items()))
    members = {member: there.but(dsn=text) for member, there in database.members.items()}
    planted = catalog.but(resources={**catalog.resources, name: database.but(members=members)})
    made = propose(Asked(service="core", to="west", asked_at=scene.NOW), scene.runbook(book), planted, scene.seen())
    assert isinstance(made, Proposal)
    assert "psql" in str(made.plan)
    assert P not in str(made.plan.model_dump())


def test_a_secret_that_would_stand_on_a_command_line_is_told() -> None:
    catalog = scene.catalog()
    name, database = next(iter(catalog.resources.items()))

    def told(text: str) -> list[str]:
        east = database.members["east"].but(dsn=text)
        return [fact for _, fact, _ in of_secrets(catalog.but(resources={name: database.but(members={"east": east})}))]

    assert told(f"host=h password={P}") == []
    assert told(f"postgresql://u:{P}@h/db?sslpassword={P}") == [
        "`dsn` holds sslpassword, which tools take on their command line only"
    ]


def test_every_option_of_libpq_is_known_and_what_it_hides_is_secret() -> None:
    options = Conninfo.get_defaults()
    assert {each.keyword.decode() for each in options} <= KNOWN
    assert {each.keyword.decode() for each in options if each.dispchar == b"*"} <= SECRETS


VALUE = st.text(st.sampled_from("ab '\\=%@/:?&#é"), max_size=8)


@given(st.dictionaries(st.sampled_from(["host", "user", "password", "dbname", "sslpassword"]), VALUE))
def test_what_libpq_takes_is_read_as_libpq_reads_it(options: dict[str, str]) -> None:
    text = make_conninfo("", **options)
    told = conninfo_to_dict(text)
    assert conninfo_to_dict(shown(text)) == {name: value for name, value in told.items() if name not in SECRETS}
    assert dsn(text).secrets == SECRETS & told.keys()
    assert dsn(text).host == (told.get("host") or "localhost")


@given(VALUE, VALUE)
def test_no_password_of_a_uri_that_libpq_takes_is_shown(user: str, password: str) -> None:
    from urllib.parse import quote

    text = f"postgresql://{quote(user, safe='')}:{quote(password, safe='')}@h:5/db"
    assert conninfo_to_dict(shown(text)) == {
        name: value for name, value in conninfo_to_dict(text).items() if name != "password"
    }


@pytest.mark.parametrize("said", ["AKIA", ":AKIA", "e:AKIA", "file:", "secret:AKIA", "default:x", ""])
def test_what_is_no_reference_to_a_secret_is_told_at_every_door_and_not_repeated(said: str) -> None:
    catalog = scene.catalog()
    site = catalog.sites["east"]
    doors = {"s3": site.s3.but(credentials=said), "compute": site.compute.but(credentials=said)}
    daily = next(iter(catalog.backups))
    wrong = catalog.but(
        sites={**catalog.sites, "east": site.but(**doors)},
        route53=catalog.route53.but(credentials=said),
        routing=RoutingCluster(endpoints={"r": "http://u"}, controls={"c": "arn"}, credentials=said),
        backups={daily: catalog.backups[daily].but(encryption=said)},
    )
    found = list(of_secrets(wrong))
    assert {path[0] for path, _, _ in found} == {"sites", "route53", "routing", "backups"}
    assert len(found) == 5
    assert "AKIA" not in str(found)
    assert list(of_secrets(catalog)) == []
