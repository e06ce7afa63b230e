"""`landed doctor` beyond this machine: each planted fault is found and named, and a sound set-up has none.

Vonage is the offline one over TLS, landed runs, and a proxy stands before it.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import socket
import ssl
import subprocess
import sys
import threading
import time
from contextlib import closing
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import httpx
import msgspec
import pytest
import trustme

from landed.errors import SettingsError
from landed.journal.record import Ids, SentRecord, encode
from landed.journal.sqlite import SqliteJournal
from landed.onboarding.doctor import examine, wrong_settings
from landed.onboarding.pointing import Pointed
from landed.onboarding.seen import ledger_of
from landed.run import journal_path, look_around
from landed.settings import load
from landed.simulator.account import Application, Number, messages_capability
from landed.simulator.clock import STEPPED
from landed.simulator.scenario import Scenario
from landed.testing import Vonage
from landed.vonage.keys import key_pair

EXAMPLES = Path(__file__).parent.parent.parent / "examples" / "proxy"
SECONDS_MAX = 60
SENDER = "447700900999"
SECRET = "another-secret-than-the-one-that-is-set"

_spec = importlib.util.spec_from_file_location("front", Path(__file__).parent.parent / "onboarding" / "front.py")
front = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(front)


class Place:
    """A landed that runs behind a proxy, set up at an offline Vonage as it should be."""

    def __init__(self, vonage, directory, certificate=None, **environment):
        self.vonage = vonage
        self.account = vonage._simulator.account  # noqa: SLF001 - faults are planted in it
        self.directory = directory
        self.data = directory / "data"
        self.environment = os.environ | {"LANDED_DATA": str(self.data), "LANDED_SENDER": SENDER} | environment
        said = directory / "said"
        ports = ["--host", "127.0.0.1", "--port", "0", "--private-port", "0", "--print", "none"]
        with said.open("wb") as stderr:
            self.serving = subprocess.Popen(
                [sys.executable, "-m", "landed", "serve", *ports], stderr=stderr, env=self.environment, cwd=directory
            )
        tick = threading.Event()
        while not (ports := re.findall(r"http://127\.0\.0\.1:(\d+)/webhooks", said.read_text())):
            assert self.serving.poll() is None, said.read_text()
            tick.wait(0.02)
        self.port = int(ports[0])
        self.front = front.Front(self.port, certificate)
        self.url = self.environment["LANDED_PUBLIC_URL"] = self.front.url
        self._public_key = self.account.application.public_key
        self.mend()
        while "no-worker" in self.names():
            tick.wait(0.02)

    def mend(self):
        """Undo whatever was planted."""
        application = self.account.application
        application.capabilities = messages_capability(
            self.url + "/webhooks/message-status", self.url + "/webhooks/inbound-message"
        )
        application.public_key = self._public_key
        self.account.applications = {application.id: application}
        self.account.settings.receipt_url = self.url + "/webhooks/delivery-receipt"
        self.account.settings.inbound_url = self.url + "/webhooks/inbound-sms"
        self.account.numbers = {SENDER: Number(country="GB", msisdn=SENDER, app_id=application.id)}
        self.account.balance = Decimal(100)
        self.front.does = "passes"

    def run(self, *arguments, **environment):
        environment = self.environment | environment
        return subprocess.run(
            [sys.executable, "-m", "landed", *arguments],
            env={name: value for name, value in environment.items() if value is not None},
            cwd=self.directory,
            capture_output=True,
            text=True,
            timeout=SECONDS_MAX,
            check=False,
        )

    def ask(self, *arguments, **environment):
        done = self.run("doctor", "--json", *arguments, **environment)
        told = json.loads(done.stdout)
        assert (done.stderr, done.returncode) == ("", 0 if told["ok"] else 1)
        return told

    def findings(self, **environment):
        """What is found, as the command finds it, without starting it anew for each."""
        with pytest.MonkeyPatch.context() as patch:
            for name, value in (self.environment | environment).items():
                patch.setenv(name, value) if value is not None else patch.delenv(name, raising=False)
            try:
                seen = look_around(load(), datetime.now(UTC), lambda _: None)
            except SettingsError as error:
                return wrong_settings(str(error))
        # Whatever was tried, nothing of it is counted or left behind.
        ledger = ledger_of(seen)
        assert ledger.received == ledger.quarantined == 0
        return examine(seen)

    def names(self, **environment):
        """What is found; advice in brackets."""
        return [f"({each.name})" if each.advice else each.name for each in self.findings(**environment)]

    def close(self):
        self.serving.terminate()
        self.serving.wait(SECONDS_MAX)
        self.front.close()


@pytest.fixture
def own_place(vonage, tmp_path):
    """One that a test may break."""
    running = Place(vonage, tmp_path)
    yield running
    running.close()


@pytest.fixture(scope="module")
def kept_place(tmp_path_factory):
    directory = tmp_path_factory.mktemp("place")
    vonage = Vonage(Scenario(speed=STEPPED), directory / "vonage")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in vonage.environment.items():
            patch.setenv(name, value)
        running = Place(vonage, directory)
    yield running
    running.close()
    vonage.stop()


@pytest.fixture
def place(kept_place):
    """One in which faults are planted that can be mended."""
    yield kept_place
    kept_place.mend()


def with_urls(place, status, inbound=None):
    inbound = place.url + "/webhooks/inbound-message" if inbound is None else inbound
    place.account.application.capabilities = messages_capability(status, inbound)


def plant_no_capability(place):
    place.account.application.capabilities = {"voice": {}}


def plant_old_version(place):
    place.account.application.capabilities["messages"]["version"] = "v0.1"


def plant_other_key(place):
    place.account.application.public_key = key_pair()[1]


def plant_number(place, **about):
    other = "11111111-2222-4333-8444-555555555555"
    place.account.applications[other] = Application(id=other, name="other", public_key="")
    usual = {"app_id": place.account.application.id}
    place.account.numbers[SENDER] = Number(country="GB", msisdn=SENDER, **(usual | about))


def plant_money(place, left):
    place.account.balance = Decimal(left)


AT_VONAGE = [
    # what is planted, what is found
    pytest.param(lambda _: None, [], id="nothing"),
    pytest.param(lambda place: with_urls(place, ""), ["application-no-url"], id="no status URL"),
    pytest.param(
        lambda place: with_urls(place, "https://old.example/webhooks/message-status"),
        ["application-elsewhere"],
        id="status URL elsewhere",
    ),
    pytest.param(lambda place: with_urls(place, place.url + "/status"), ["application-path"], id="wrong path"),
    pytest.param(
        lambda place: with_urls(place, place.url + "/webhooks/delivery-receipt"), [], id="another webhook of ours"
    ),
    pytest.param(
        lambda place: with_urls(place, place.url + "/webhooks/message-status", "https://bot.example/"),
        ["(application-inbound)"],
        id="inbound elsewhere",
    ),
    pytest.param(plant_no_capability, ["application-no-messages"], id="no Messages capability"),
    pytest.param(plant_old_version, ["(application-version)"], id="v0.1"),
    pytest.param(plant_other_key, ["application-key"], id="another key"),
    pytest.param(
        lambda place: setattr(place.account.settings, "receipt_url", ""), ["(account-no-url)"], id="no account URL"
    ),
    pytest.param(
        lambda place: setattr(place.account.settings, "receipt_url", "https://old.example/dlr"),
        ["(account-elsewhere)"],
        id="account URL elsewhere",
    ),
    pytest.param(
        lambda place: setattr(place.account.settings, "inbound_url", ""), ["(account-inbound)"], id="no inbound SMS"
    ),
    pytest.param(lambda place: place.account.numbers.clear(), ["sender"], id="sender of somebody else"),
    pytest.param(
        lambda place: plant_number(place, app_id="11111111-2222-4333-8444-555555555555"),
        ["number-elsewhere"],
        id="number linked elsewhere",
    ),
    pytest.param(lambda place: plant_number(place, app_id=None), ["(number-unlinked)"], id="number unlinked"),
    pytest.param(
        lambda place: plant_number(place, mo_http_url="https://bot.example/"),
        ["(number-webhook)"],
        id="number with a webhook of its own",
    ),
    pytest.param(lambda place: plant_money(place, 0), ["balance"], id="no money"),
    pytest.param(lambda place: plant_money(place, "0.50"), ["(balance)"], id="little money"),
]

INBOUND = ["(application-inbound)"]

SETTINGS = [
    # environment, what is found
    pytest.param({"VONAGE_API_SECRET": "wrong"}, ["credentials"], id="wrong secret"),
    pytest.param({"VONAGE_API_SECRET": ""}, ["(no-credentials)"], id="no secret"),
    pytest.param(
        {"VONAGE_API_HOST": "127.0.0.1:1", "VONAGE_REST_HOST": "127.0.0.1:1"}, ["vonage-unreachable"], id="no Vonage"
    ),
    pytest.param(
        {"VONAGE_APPLICATION_ID": "11111111-2222-4333-8444-555555555555"},
        ["application-missing", "number-elsewhere"],
        id="no such application",
    ),
    pytest.param({"VONAGE_APPLICATION_ID": ""}, ["(no-application)"], id="no application"),
    pytest.param({"VONAGE_PRIVATE_KEY": ""}, ["(no-private-key)"], id="no private key"),
    pytest.param({"VONAGE_PRIVATE_KEY": "nowhere.key"}, ["private-key"], id="private key not there"),
    pytest.param({"VONAGE_SIGNATURE_SECRET": SECRET}, ["outside-secrets"], id="secrets of another landed"),
    pytest.param({"VONAGE_SIGNATURE_SECRET": None}, ["no-secret", "outside-unsigned"], id="no signature secret"),
    pytest.param(
        {"LANDED_PUBLIC_URL": ""},
        ["(no-public-url)"],
        id="no public URL",
    ),
    pytest.param(
        {"LANDED_PUBLIC_URL": "http://127.0.0.1:1"},
        [
            "application-elsewhere",
            "outside-refused",
            "(application-inbound)",
            "(account-elsewhere)",
            "(account-inbound)",
        ],
        id="nobody listens",
    ),
    pytest.param(
        {"LANDED_PUBLIC_URL": "https://landed.invalid"},
        ["application-elsewhere", "outside-dns", *INBOUND, "(account-elsewhere)", "(account-inbound)"],
        id="unknown name",
    ),
    pytest.param(
        {"LANDED_PATH_PREFIX": "/hooks"},
        ["application-path", "outside-404", "(application-inbound)", "(account-path)", "(account-inbound)"],
        id="another prefix",
    ),
]

ON_THE_WAY = [
    # what the proxy does, what is found
    pytest.param("redirects", ["outside-redirect"], id="redirects"),
    pytest.param("does not know the path", ["outside-404"], id="404"),
    pytest.param("wants a password", ["outside-status"], id="401"),
    pytest.param("has nobody behind it", ["outside-5xx"], id="502"),
    pytest.param("says yes to everything", ["outside-other"], id="another page"),
    pytest.param("drops Authorization", ["outside-unsigned"], id="drops Authorization"),
    pytest.param("writes JSON anew", ["outside-changed"], id="writes JSON anew"),
    pytest.param("decodes the query", ["outside-changed"], id="decodes the query"),
    pytest.param("drops the query", ["outside-other"], id="drops the query"),
]


@pytest.mark.parametrize(("plant", "found"), AT_VONAGE)
def test_each_fault_at_vonage_is_named(place, plant, found):
    plant(place)
    assert place.names() == found


@pytest.mark.parametrize(("environment", "found"), SETTINGS)
def test_each_fault_of_the_settings_is_named(place, environment, found):
    assert place.names(**environment) == found


@pytest.mark.parametrize(("does", "found"), ON_THE_WAY)
def test_each_fault_of_the_way_is_named(place, does, found):
    place.front.does = does
    assert place.names() == found
    # And mended, it is gone, with nothing left behind.
    place.front.does = "passes"
    assert place.names() == []


def test_a_certificate_that_nobody_trusts_is_named(vonage, tmp_path):
    authority = trustme.CA()
    running = Place(vonage, tmp_path, authority.issue_cert("127.0.0.1"))
    with closing(running):
        (finding,) = running.findings()
        assert finding.name == "outside-tls"
        assert "certificate" in finding.what
        trusted = tmp_path / "trusted.pem"
        trusted.write_bytes(Path(os.environ["SSL_CERT_FILE"]).read_bytes() + authority.cert_pem.bytes())
        assert running.names(SSL_CERT_FILE=str(trusted)) == []


def test_an_address_that_is_not_on_the_list_is_named(vonage, tmp_path):
    with closing(Place(vonage, tmp_path, LANDED_NETWORKS="192.0.2.0/24")) as running:
        (finding,) = running.findings()
    assert finding.name == "outside-address"
    assert "trusted_proxies" in finding.do


def test_a_landed_that_is_no_more_is_named(own_place):
    own_place.serving.terminate()
    own_place.serving.wait(SECONDS_MAX)
    own_place.front.does = "has nobody behind it"
    assert own_place.names() == ["no-worker", "outside-5xx"]


def test_receipts_in_the_form_of_the_other_api_are_named(own_place):
    own_place.vonage.setting(sms_setting="sms")
    done = own_place.run("send", "Hello", "--to", "447700900001", "--json")
    (message_id,) = json.loads(done.stdout)["message_ids"]
    track(own_place, message_id)
    own_place.vonage.settle()
    assert own_place.run("wait", message_id).returncode == 0
    assert [each["name"] for each in own_place.ask()["findings"]][:1] == ["sms-setting"]


def test_sends_without_any_receipt_are_named(own_place):
    track(own_place, "m-1")
    assert own_place.run("wait", "m-1", "--wait-for", "1s").returncode == 1
    assert "silence" in own_place.names()


def track(place, message_id):
    """Say that a message was sent a quarter of an hour ago: so long the doctor waits before it calls one silent."""
    at_us = int((time.time() - 900) * 1_000_000)
    record = SentRecord(
        id=Ids().next(),
        at_us=at_us,
        account="default",
        message_id=message_id,
        api="messages",
        channel="sms",
        to="447700900001",
        sender=SENDER,
        client_ref=None,
        sent_us=at_us,
    )
    with closing(SqliteJournal(journal_path(place.data))) as journal:
        journal.append([encode(record)])


def test_a_tunnel_that_was_left_behind_is_named(own_place):
    file = own_place.data / "pointed.json"
    file.write_text("{}")
    assert own_place.names() == ["tunnel-unreadable"]
    file.write_bytes(msgspec.json.encode(Pointed(url="https://gone.example", api_key=own_place.account.api_key)))
    (finding,) = own_place.findings()
    assert finding.name == "tunnel-left"
    assert "landed tunnel --restore" in finding.do


def test_it_says_which_url_each_way_to_send_leads_to(place):
    place.account.settings.receipt_url = "https://old.example/dlr"
    assert [(each["url"], each["is_ours"]) for each in place.ask()["routes"]] == [
        (place.url + "/webhooks/message-status", True),
        ("https://old.example/dlr", False),
        ("https://old.example/dlr", False),
    ]
    told = place.run("doctor").stdout
    assert "Receipts of the SMS API go to https://old.example/dlr (not here)." in told


def test_offline_it_asks_nobody(place):
    place.front.does = "redirects"
    told = place.ask("--offline", VONAGE_API_SECRET="wrong", VONAGE_API_HOST="127.0.0.1:1")
    assert (told["ok"], told["findings"], told["routes"]) == (True, [], [])


def test_nothing_secret_is_said(place):
    told = place.run("doctor", VONAGE_API_SECRET="a-wrong-secret")
    assert told.returncode == 1
    for secret in ("a-wrong-secret", place.vonage.signature_secret):
        assert secret not in told.stdout + told.stderr


def nginx(directory, address, port, certificate, key):
    """The example's nginx, with what is of this machine in the place of what is of another."""
    server = (EXAMPLES / "nginx.conf").read_text()
    server = server.replace("listen 443 ssl", f"listen {address} ssl").replace("127.0.0.1:3000", f"127.0.0.1:{port}")
    for name, file in (("fullchain", certificate), ("privkey", key)):
        server = re.sub(rf"/etc/letsencrypt/\S+/{name}.pem", str(file), server)
    temporary = "".join(
        f"{kind}_temp_path {directory}/{kind};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    main = f"pid {directory}/pid;\nerror_log stderr;\nevents {{}}\nhttp {{\naccess_log off;\n{temporary}{server}}}\n"
    (directory / "nginx.conf").write_text(main)
    return ["nginx", "-p", str(directory), "-c", str(directory / "nginx.conf"), "-g", "daemon off;"]


def caddy(directory, address, port, certificate, key):
    """The example's Caddy, in the same way; it has a certificate already."""
    site = (EXAMPLES / "Caddyfile").read_text().replace("127.0.0.1:3000", f"127.0.0.1:{port}")
    site = site.replace("\nhooks.example.com {", f"\nhttps://{address} {{\n\ttls {certificate} {key}")
    options = f"{{\n\tadmin off\n\tauto_https disable_redirects\n\tstorage file_system {directory}\n}}\n"
    (directory / "Caddyfile").write_text(options + site)
    return ["caddy", "run", "--adapter", "caddyfile", "--config", str(directory / "Caddyfile")]


@pytest.mark.parametrize("proxy", [nginx, caddy])
def test_behind_the_proxies_of_the_examples_nothing_is_found(vonage, tmp_path, proxy):
    if shutil.which(proxy.__name__) is None and "NOTHING_SKIPPED" not in os.environ:
        pytest.skip(f"{proxy.__name__} is not installed")
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1")
    certificate, key, trusted = (tmp_path / name for name in ("cert.pem", "key.pem", "trusted.pem"))
    issued.cert_chain_pems[0].write_to_path(certificate)
    issued.private_key_pem.write_to_path(key)
    trusted.write_bytes(Path(os.environ["SSL_CERT_FILE"]).read_bytes() + authority.cert_pem.bytes())
    # With a list of networks: only the proxy's word on who called makes them hold.
    lists = {"LANDED_NETWORKS": "127.0.0.0/8", "LANDED_TRUSTED_PROXIES": "127.0.0.1"}
    with closing(Place(vonage, tmp_path, **lists)) as running, closing(socket.create_server(("127.0.0.1", 0))) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
        free.close()
        with (tmp_path / "log").open("wb") as log:
            command = proxy(tmp_path, address, running.port, certificate, key)
            proxying = subprocess.Popen(command, stdout=log, stderr=log, env=os.environ | {"HOME": str(tmp_path)})
        try:
            running.url = running.environment["LANDED_PUBLIC_URL"] = f"https://{address}"
            running.environment["SSL_CERT_FILE"] = str(trusted)
            running.mend()
            deadline = time.monotonic() + SECONDS_MAX
            while "outside-refused" in (found := running.names()):
                assert time.monotonic() < deadline, (tmp_path / "log").read_text()
            assert found == []
            url = f"https://{address}/metrics"
            assert httpx.get(url, verify=ssl.create_default_context(cafile=trusted)).status_code == 404
        finally:
            proxying.terminate()
            proxying.wait(SECONDS_MAX)
