"""What comes over the network reaches nothing it should not, and no role grows by a configuration."""

from __future__ import annotations

from pathlib import Path

import pytest

from api.access import Principal
from api.configuring import MAIN_FILE, NotDone, Refused
from tests.gateway.changing.changing_site import ADA, ANNA, CSV, LOCAL, MAIN, Site

API = '\n[api]\nlisten = "127.0.0.1:8420"\n'


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """A site that runs; beside it a file nobody may read."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "shadow").write_text("root:hush-shadow")
    site = Site(tmp_path / "folder")
    (site.folder / "data/access").mkdir()
    (site.folder / "data/access/local.key").write_text("ak_hush-local")
    return site


async def problems(site: Site, files: dict[str, str], by: Principal) -> list[tuple[str, str]]:
    """File and code of all that is wrong with what was sent; nothing has changed by it."""
    before = site.on_disk()
    with pytest.raises(Refused) as caught:
        await site.put(files, by)
    assert site.on_disk() == before
    assert not site.exchange.told
    assert "hush" not in repr(caught.value.problems)
    return [(one.file, one.code) for one in caught.value.problems]


# -- names ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "/etc/cron.d/andon.toml",
        "../andon.toml",
        "lists/../../shadow.csv",
        "..\\shadow.csv",
        ".hidden.csv",
        "lists/.slow.csv.part",
        "C:/x.csv",
        "lists//slow.csv",
        "lists/./slow.csv",
        "",
        "a\0.csv",
        "a\n.csv",
        "a" * 300 + ".csv",
        "environment",
        "andon.service",
        "data/access/users.toml",
        "data/x.csv",
        "line-1.toml",
        "away/x.csv",
    ],
)
async def test_a_name_that_leads_elsewhere(site: Site, name: str) -> None:
    (site.folder / "away").symlink_to(site.folder.parent)
    found = await problems(site, {**site.files, name: CSV}, ADA)
    assert {code for _, code in found} == {"bad_file_name"}


async def test_more_files_than_there_can_be(site: Site) -> None:
    many = {f"lists/{number}.csv": CSV for number in range(300)}
    assert await problems(site, {**site.files, **many}, ADA) == [(MAIN_FILE, "too_large")]


async def test_a_file_no_line_names_is_not_written(site: Site) -> None:
    assert await problems(site, {**site.files, "x.csv": CSV}, ADA) == [("x.csv", "unused_file")]
    assert not (site.folder / "x.csv").exists()


async def test_what_was_not_sent_is_not_read_from_the_disk(site: Site) -> None:
    (site.folder / "there.csv").write_text("hush-column,address\n")
    files = site.edited("lists/slow.csv", "there.csv")
    del files["lists/slow.csv"]
    assert await problems(site, files, ADA) == [(MAIN_FILE, "no_such_file")]
    files = site.edited("lists/slow.csv", "../shadow")
    del files["lists/slow.csv"]
    assert await problems(site, files, ADA) == [(MAIN_FILE, "no_such_file")]


async def test_without_the_configuration_itself(site: Site) -> None:
    assert await problems(site, {"lists/slow.csv": CSV}, ADA) == [(MAIN_FILE, "no_such_file")]


async def test_half_a_character(site: Site) -> None:
    assert await problems(site, site.edited("hall 3", "hall \ud800"), ADA) == [(MAIN_FILE, "not_utf8")]


# -- references ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('site = "berlin"', 'site = "file:../shadow"'),
        ("filling/line-1/filler-1", "file:../shadow"),
        ('model = "packml"', 'model = "file:../shadow"'),
        ('protocol = "modbus"', 'protocol = "file:../shadow"'),
        ('"tcp://127.0.0.1:502"', '"file:../shadow"'),
        ('name = "fast"', 'name = "env:DSN"'),
        ('type = "uint16"', 'type = "uint16", unit = "file:data/access/local.key"'),
        ('"lists/slow.csv"', '"file:../shadow"'),
    ],
)
@pytest.mark.parametrize("by", [ANNA, ADA], ids=["engineer", "admin"])
async def test_a_reference_where_its_value_could_be_seen(
    site: Site, old: str, new: str, by: Principal
) -> None:
    assert (MAIN_FILE, "reference_not_allowed") in await problems(site, site.edited(old, new), by)


async def test_new_references_are_for_administrators(site: Site) -> None:
    files = site.edited("file:secret/mqtt", "env:OTHER")
    assert await problems(site, files, ANNA) == [(MAIN_FILE, "reference_not_allowed")]
    assert (await site.put(files, ADA)).status == "applied"


@pytest.mark.parametrize("reference", ["env:DSN", "env:NOT_THERE", "file:../shadow", "file:../gone"])
async def test_an_engineer_learns_of_no_secret_whether_it_is_there(site: Site, reference: str) -> None:
    with pytest.raises(Refused) as caught:
        await site.put(site.edited("file:secret/mqtt", reference), ANNA)
    (one,) = caught.value.problems
    assert one.code == "reference_not_allowed"
    assert "administrator" in one.reason


@pytest.mark.parametrize("reference", ["file:data/access/local.key", "file:./data/../data/access/local.key"])
async def test_not_even_an_administrator_points_into_the_gateways_own_files(
    site: Site, reference: str
) -> None:
    files = site.edited("file:secret/mqtt", reference)
    assert await problems(site, files, ADA) == [(MAIN_FILE, "reference_not_allowed")]


async def test_a_link_into_the_gateways_own_files(site: Site) -> None:
    (site.folder / "secret/link").symlink_to(site.folder / "data/access/local.key")
    files = site.edited("file:secret/mqtt", "file:secret/link")
    assert await problems(site, files, ADA) == [(MAIN_FILE, "reference_not_allowed")]


async def test_who_can_read_the_files_anyway_may_name_them(site: Site) -> None:
    site.environment["SITE"] = "bremen"
    assert (await site.put(site.edited('site = "berlin"', 'site = "env:SITE"'), LOCAL)).status == "applied"


# -- what needs an administrator -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("files", "keys"),
    [
        ({MAIN_FILE: MAIN.replace("mqtt://127.0.0.1", "mqtt://10.6.6.6")}, ("mqtt.broker",)),
        ({MAIN_FILE: MAIN.replace('user = "andon"', 'user = "eve"')}, ("mqtt.user",)),
        (
            {
                MAIN_FILE: MAIN.replace("[mqtt]", "[[mqtt]]\nname = 'a'").replace(
                    "127.0.0.1:1883", "10.6.6.6:1"
                )
            },
            None,
        ),
        ({MAIN_FILE: MAIN + API}, ("api",)),
        ({MAIN_FILE: MAIN + "\n[commands]\nenabled = true\n"}, ("commands",)),
        ({MAIN_FILE: MAIN.replace('site = "berlin"', 'site = "berlin"\nwatch = true')}, ("gateway.watch",)),
        ({MAIN_FILE: MAIN.replace('data_dir = "./data"', 'data_dir = "x"')}, ("gateway.data_dir",)),
    ],
)
async def test_an_engineer_is_refused(
    site: Site, files: dict[str, str], keys: tuple[str, ...] | None
) -> None:
    with pytest.raises(NotDone) as caught:
        await site.put({**site.files, **files}, ANNA)
    assert caught.value.code == "configuration_needs_admin"
    assert caught.value.keys
    assert keys is None or caught.value.keys == keys
    assert caught.value.keys[0] in caught.value.hint
    assert site.audit.results() == [("config.apply", "refused", "configuration_needs_admin")]
    assert not site.exchange.told


@pytest.mark.parametrize("key", ["ca_file", "user"])
async def test_how_a_secret_is_kept_on_its_way_is_for_administrators(tmp_path: Path, key: str) -> None:
    main = MAIN.replace("mqtt://", "mqtts://")
    site = Site(tmp_path, {MAIN_FILE: main, "lists/slow.csv": CSV})
    other = main.replace('user = "andon"', f'{key} = "other"' + ("" if key == "user" else '\nuser = "andon"'))
    with pytest.raises(NotDone) as caught:
        await site.put({**site.files, MAIN_FILE: other}, ANNA)
    assert caught.value.keys == (f"mqtt.{key}",)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('interval = "1s"', 'interval = "2s"'),
        ("tcp://127.0.0.1:502", "tcp://10.0.0.9:502"),
        ('name = "filler-1"', 'name = "filler-2"'),
        ("[mqtt]", "[mqtt]\nclear_removed = false"),
        ('site = "berlin"', 'site = "berlin"\nlog_level = "debug"'),
        ("[mqtt]", "[mqtt]\nkeep_alive = '20s'"),
    ],
)
async def test_an_engineer_does_the_days_work(site: Site, old: str, new: str) -> None:
    assert (await site.put(site.edited(old, new), ANNA)).status == "applied"


COMMANDS = """
[commands]
enabled = true
[[commands.allow]]
equipment = "filler-1"
tag = "filler-plc/count"
min = 0.0
max = 10.0
readback = { tag = "filler-plc/seen" }
"""
SEEN = ', { name = "seen", address = "holding:20", type = "uint16" }]'


@pytest.fixture
def commanded(tmp_path: Path) -> Site:
    """A site whose tag `count` may be commanded, and is read back from `seen`."""
    main = MAIN.replace(" }]", " }" + SEEN) + COMMANDS
    return Site(tmp_path, {MAIN_FILE: main, "lists/slow.csv": CSV})


@pytest.mark.parametrize(
    ("file", "old", "new", "key"),
    [
        ("lists/slow.csv", "holding:10", "holding:11", "tag filler-plc/count address"),
        ("lists/slow.csv", "uint32", "uint16", "tag filler-plc/count type"),
        ("lists/slow.csv", CSV, CSV.replace("type", "type,scale").replace("32", "32,0.01"), "scale"),
        (MAIN_FILE, "holding:20", "holding:1", "tag filler-plc/seen address"),
        (MAIN_FILE, "127.0.0.1:502", "10.0.0.9:502", "connection filler-plc endpoint"),
        (MAIN_FILE, '"modbus"\n', '"modbus"\nunit = 7\n', "connection filler-plc unit"),
    ],
)
async def test_what_a_commanded_tag_writes_to_is_for_administrators(
    commanded: Site, file: str, old: str, new: str, key: str
) -> None:
    """The rule that an administrator made is for a place in a device, not for a name an engineer moves."""
    files = {**commanded.files, file: commanded.files[file].replace(old, new, 1)}
    assert files != commanded.files
    with pytest.raises(NotDone) as caught:
        await commanded.put(files, ANNA)
    assert caught.value.code == "configuration_needs_admin"
    assert set(key.split()) <= set(" ".join(caught.value.keys).replace(".", " ").split())
    assert (await commanded.put(files, ADA)).status == "applied"


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        (MAIN_FILE, 'holding:1"', 'holding:2"'),
        (MAIN_FILE, 'interval = "1s"', 'interval = "2s"'),
        ("lists/slow.csv", CSV, CSV.replace("type", "type,deadband").replace("32", "32,2")),
    ],
)
async def test_the_rest_of_a_commanded_device_is_the_days_work(
    commanded: Site, file: str, old: str, new: str
) -> None:
    files = {**commanded.files, file: commanded.files[file].replace(old, new, 1)}
    assert files != commanded.files
    assert (await commanded.put(files, ANNA)).status == "applied"


async def test_whom_a_sparkplug_host_counts_as_is_for_administrators(tmp_path: Path) -> None:
    node = '\n[sparkplug]\nbroker = "mqtt://127.0.0.1:1883"\ngroup = "plant"\n'
    site = Site(tmp_path, {MAIN_FILE: MAIN + node, "lists/slow.csv": CSV})
    caller = 'caller = { name = "scada", roles = ["engineer"] }\n'
    with pytest.raises(NotDone) as caught:
        await site.put({**site.files, MAIN_FILE: MAIN + node + caller}, ANNA)
    assert any(key.startswith("sparkplug.caller") for key in caught.value.keys)


async def test_a_key_of_the_machine_for_a_device_is_for_administrators(tmp_path: Path) -> None:
    site = Site(tmp_path, {MAIN_FILE: MAIN.replace("tcp://", "tls://"), "lists/slow.csv": CSV})
    files = {
        **site.files,
        MAIN_FILE: site.files[MAIN_FILE].replace(
            'protocol = "modbus"', 'protocol = "modbus"\ntls = { certificate = "/c.pem", key = "/k.pem" }'
        ),
    }
    with pytest.raises(NotDone) as caught:
        await site.put(files, ANNA)
    assert caught.value.keys == ("connection.filler-plc.tls.certificate", "connection.filler-plc.tls.key")


async def test_a_number_nobody_can_read_is_a_problem_of_the_file(site: Site) -> None:
    files = {**site.files, MAIN_FILE: MAIN + "x = " + "9" * 5000}
    assert await problems(site, files, ADA) == [(MAIN_FILE, "not_toml")]


async def test_taking_the_access_settings_away_needs_an_administrator_too(tmp_path: Path) -> None:
    site = Site(tmp_path, {MAIN_FILE: MAIN + API, "lists/slow.csv": CSV})
    with pytest.raises(NotDone) as caught:
        await site.put({MAIN_FILE: MAIN, "lists/slow.csv": CSV}, ANNA)
    assert caught.value.keys == ("api",)
    assert (await site.put({MAIN_FILE: MAIN, "lists/slow.csv": CSV}, ADA)).status == "applied"


async def test_going_back_is_no_way_around(site: Site) -> None:
    """An older revision with another address for the secret is no more open to an engineer than a new one."""
    await site.put(site.edited("mqtt://127.0.0.1", "mqtt://10.0.0.5"), ADA)
    with pytest.raises(NotDone) as caught:
        await site.desk.restore(1, "back", site.desk.running().hash, ANNA)
    assert caught.value.code == "configuration_needs_admin"
