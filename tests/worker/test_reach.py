"""The judge of addresses and of URLs: each form and spelling that has led somebody inside, and those that go out."""

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from yarl import URL

from landed.errors import SettingsError
from landed.worker.reach import FORMS, REFUSED, Target, judge, read_url


def networks(*texts):
    return tuple(ip_network(text) for text in texts)


REFUSED_ADDRESSES = [
    ("0.0.0.0", "unspecified"),  # noqa: S104 - nobody binds it
    ("0.1.2.3", "reserved"),
    ("10.0.0.0", "private"),
    ("10.255.255.255", "private"),
    ("172.16.0.1", "private"),
    ("172.31.255.255", "private"),
    ("192.168.1.1", "private"),
    ("100.64.0.1", "shared behind a carrier's NAT"),
    ("100.127.255.255", "shared behind a carrier's NAT"),
    ("127.0.0.1", "loopback"),
    ("127.255.255.254", "loopback"),
    ("169.254.0.1", "link-local"),
    ("169.254.170.2", "link-local"),
    ("169.254.169.254", "the metadata of a cloud"),
    ("100.100.100.200", "the metadata of a cloud"),
    ("192.0.0.192", "the metadata of a cloud"),
    ("168.63.129.16", "the metadata of a cloud"),
    ("192.0.0.8", "reserved"),
    ("192.0.2.1", "for documentation"),
    ("198.51.100.1", "for documentation"),
    ("203.0.113.1", "for documentation"),
    ("192.88.99.1", "a 6to4 relay"),
    ("198.18.0.1", "for benchmarks"),
    ("198.19.255.255", "for benchmarks"),
    ("224.0.0.1", "multicast"),
    ("239.255.255.255", "multicast"),
    ("240.0.0.1", "reserved"),
    ("255.255.255.255", "broadcast"),
    ("::", "unspecified"),
    ("::1", "loopback"),
    ("::2", "IPv4-compatible"),
    ("::127.0.0.1", "IPv4-compatible"),
    ("::8.8.8.8", "IPv4-compatible"),
    ("::ffff:127.0.0.1", "IPv4-mapped"),
    ("::ffff:8.8.8.8", "IPv4-mapped"),
    ("::ffff:0:169.254.169.254", "IPv4-translated"),
    ("64:ff9b::8.8.8.8", "NAT64"),
    ("64:ff9b::a9fe:a9fe", "NAT64"),
    ("64:ff9b:1::1", "local NAT64"),
    ("100::1", "discarded"),
    ("2001::1", "Teredo"),
    ("2001:0:4136:e378:8000:63bf:80ff:fffe", "Teredo"),
    ("2001:2::1", "for benchmarks"),
    ("2001:10::1", "reserved"),
    ("2001:db8::1", "for documentation"),
    ("3fff::1", "for documentation"),
    ("2002:7f00:1::", "6to4"),
    ("2002:808:808::1", "6to4"),
    ("2a00:1450:4001:81b::5efe:7f00:1", "ISATAP"),
    ("2a00:1450:4001:81b:200:5efe:a00:1", "ISATAP"),
    ("fc00::1", "unique-local"),
    ("fd12:3456:789a::1", "unique-local"),
    ("fd00:ec2::254", "the metadata of a cloud"),
    ("fd20:ce::254", "the metadata of a cloud"),
    ("fe80::1", "link-local"),
    ("fe80::1%eth0", "link-local"),
    ("fec0::1", "site-local"),
    ("ff02::1", "multicast"),
    ("200::1", "reserved"),
    ("4000::1", "reserved"),
    ("5f00::1", "reserved"),
    ("8000::1", "reserved"),
    ("fe00::1", "reserved"),
]

PUBLIC_ADDRESSES = [
    "1.1.1.1",
    "8.8.8.8",
    "9.255.255.255",
    "11.0.0.0",
    "100.63.255.255",
    "100.128.0.0",
    "126.255.255.255",
    "128.0.0.0",
    "168.63.129.17",
    "169.253.255.255",
    "172.15.255.255",
    "172.32.0.0",
    "192.167.255.255",
    "192.169.0.0",
    "223.255.255.255",
    "2001:4860:4860::8888",
    "2003::1",
    "2a00:1450:4001:81b::200e",
    "2606:4700::1111",
    "3ffe::1",
]


@pytest.mark.parametrize(("text", "why"), REFUSED_ADDRESSES, ids=[text for text, _ in REFUSED_ADDRESSES])
def test_an_address_that_is_not_everybodys_is_refused_with_its_kind(text, why):
    assert judge(ip_address(text)) == why


@pytest.mark.parametrize("text", PUBLIC_ADDRESSES)
def test_a_public_address_may_be_dialled(text):
    assert judge(ip_address(text)) is None


@pytest.mark.parametrize(
    ("text", "allowed", "why"),
    [
        ("10.1.2.3", "10.0.0.0/8", None),
        ("11.0.0.1", "10.0.0.0/8", None),
        ("192.168.0.1", "10.0.0.0/8", "private"),
        ("127.0.0.1", "127.0.0.1/32", None),
        ("127.0.0.2", "127.0.0.1/32", "loopback"),
        ("::1", "::1/128", None),
        ("::1", "127.0.0.0/8", "loopback"),
        ("fd00::7", "fd00::/64", None),
        ("fd00:0:0:1::7", "fd00::/64", "unique-local"),
        ("169.254.169.254", "169.254.169.254/32", None),
        ("::ffff:10.1.2.3", "10.0.0.0/8", None),
        ("::ffff:10.1.2.3", "::ffff:0:0/96", "IPv4-mapped of 10.1.2.3, private"),
        ("::ffff:8.8.8.8", "::ffff:0:0/96", None),
        ("::ffff:8.8.8.8", "10.0.0.0/8", "IPv4-mapped"),
        ("64:ff9b::8.8.8.8", "64:ff9b::/96", None),
        ("64:ff9b::10.0.0.1", "64:ff9b::/96", "NAT64 of 10.0.0.1, private"),
        ("64:ff9b::169.254.169.254", "::/0", "NAT64 of 169.254.169.254, the metadata of a cloud"),
        ("64:ff9b::10.0.0.1", "10.0.0.0/8", None),
        ("64:ff9b:1::10.0.0.1", "64:ff9b:1::/48", None),
        ("2002:a00:1::", "10.0.0.0/8", None),
        ("2002:a00:1::", "2002::/16", "6to4 of 10.0.0.1, private"),
        ("2001:0:4136:e378:8000:63bf:f5ff:fffe", "10.0.0.1/32", None),
        ("2a00::5efe:7f00:1", "2a00::/16", "ISATAP of 127.0.0.1, loopback"),
        ("2a00::5efe:808:808", "2a00::/16", None),
    ],
)
def test_a_network_that_is_allowed_lets_exactly_its_own_through(text, allowed, why):
    assert judge(ip_address(text), networks(allowed)) == why


@given(st.ip_addresses())
@example(IPv6Address("::5efe:0:0"))
def test_what_may_be_dialled_is_global_by_pythons_table_too(address):
    if judge(address) is None:
        assert address.is_global
        assert not address.is_multicast


@given(st.data())
def test_no_form_hides_an_address_that_is_refused(data):
    network, _ = data.draw(st.sampled_from(REFUSED[4]))
    inside = data.draw(st.ip_addresses(v=4, network=network))
    low = int(inside)
    for form in (
        (0xFFFF << 32) | low,
        (0xFFFF << 48) | low,
        (0x64_FF9B << 96) | low,
        (0x2002 << 112) | (low << 80),
        (0x2001 << 112) | (~low & 0xFFFF_FFFF),
        (0x2A00 << 112) | (0x5EFE << 32) | low,
    ):
        assert judge(IPv6Address(form)) is not None
        assert judge(IPv6Address(form), networks("::/0")) is not None
        assert judge(IPv6Address(form), [network]) is None


@given(st.data())
def test_every_address_of_an_allowed_network_is_let_through_unless_it_is_a_form(data):
    network = ip_network((data.draw(st.ip_addresses()), data.draw(st.integers(0, 32))), strict=False)
    address = data.draw(st.ip_addresses(v=network.version, network=network))
    is_form = judge(address, [network]) is not None
    assert not is_form or (address.version == 6 and judge(address) in {*(name for _, name, _ in FORMS), "ISATAP"})


# URLs.

LET_THROUGH = [
    ("https://hooks.example.com/landed", "https://hooks.example.com/landed", 443),
    ("https://hooks.example.com", "https://hooks.example.com/", 443),
    ("https://hooks.example.com?a=1", "https://hooks.example.com/?a=1", 443),
    ("HTTPS://Hooks.Example.COM/Path?Q=%C3%A9", "https://hooks.example.com/Path?Q=%C3%A9", 443),
    ("https://hooks.example.com:443/", "https://hooks.example.com/", 443),
    ("https://hooks.example.com:8443/a", "https://hooks.example.com:8443/a", 8443),
    ("https://hooks.example.com:65535/", "https://hooks.example.com:65535/", 65535),
    ("https://xn--bcher-kva.example/", "https://xn--bcher-kva.example/", 443),
    ("https://intranet/a//b/../c", "https://intranet/a//b/../c", 443),
    ("https://my_app-1.docker/", "https://my_app-1.docker/", 443),
    ("https://1.example/", "https://1.example/", 443),
    ("https://1.2.3.4.example/", "https://1.2.3.4.example/", 443),
    ("https://localhost.example/", "https://localhost.example/", 443),
    ("https://notlocalhost/", "https://notlocalhost/", 443),
    ("https://8.8.8.8/", "https://8.8.8.8/", 443),
    ("https://[2606:4700:0000::1111]:444/", "https://[2606:4700::1111]:444/", 444),
    ("http://hooks.example.com/", "http://hooks.example.com/", 80),
    ("http://hooks.example.com:443/", "http://hooks.example.com:443/", 443),
    ("https://a.example/@user:pass", "https://a.example/@user:pass", 443),
]

REFUSED_URLS = [
    ("", "begins with https://"),
    ("hooks.example.com", "begins with https://"),
    ("//hooks.example.com/", "begins with https://"),
    ("https:hooks.example.com", "begins with https://"),
    ("https:/hooks.example.com/", "begins with https://"),
    ("ftp://hooks.example.com/", "begin with https://"),
    ("file:///etc/passwd", "begin with https://"),
    ("gopher://127.0.0.1:6379/_x", "begin with https://"),
    ("https://", "no host"),
    ("https:///path", "no host"),
    ("https://:443/", "no host"),
    ("https://user@hooks.example.com/", "user's name"),
    ("https://user:secret@hooks.example.com/", "user's name"),
    ("https://hooks.example.com@127.0.0.1/", "user's name"),
    ("https://@hooks.example.com/", "user's name"),
    ("https://hooks.example.com/#part", "fragment"),
    ("https://hooks.example.com#@127.0.0.1/", "fragment"),
    ("https://hooks.example.com\\@127.0.0.1/", "percent-encode"),
    ("https://hooks.example.com\\.127.0.0.1/", "percent-encode"),
    (" https://hooks.example.com/", "blank"),
    ("https://hooks.example.com/ ", "blank"),
    ("https://hooks.example.com/a b", "blank"),
    ("https://hooks.example.com/\r\nX: y", "control"),
    ("https://hooks.example.com/\n", "control"),
    ("https://hooks.exam\tple.com/", "control"),
    ("https://hooks.example.com/\x00", "control"),
    ("https://hooks.example.com/\x7f", "control"),
    ("https://hooks.example.com/<a>", "percent-encode"),
    ("https://bücher.example/", "punycode"),
    ("https://hooks.example.com/é", "punycode"),
    ("https://１２７.0.0.1/", "punycode"),  # noqa: RUF001 - it is the case
    ("https://①②⑦.⓪.⓪.①/", "punycode"),
    ("https://127。0。0。1/", "punycode"),
    ("https://hooks\u200b.example/", "punycode"),
    ("https://hooks.example.com/%", "hexadecimal"),
    ("https://hooks.example.com/%zz", "hexadecimal"),
    ("https://%31%32%37.0.0.1/", "without escapes"),
    ("https://127.0.0.1%2f.example/", "without escapes"),
    ("https://2130706433/", "no IPv4 address"),
    ("https://0x7f000001/", "no IPv4 address"),
    ("https://0x7F.1/", "no IPv4 address"),
    ("https://0x7f.0.0.1/", "no IPv4 address"),
    ("https://0x/", "no IPv4 address"),
    ("https://017700000001/", "no IPv4 address"),
    ("https://0177.0.0.1/", "no IPv4 address"),
    ("https://127.0.0.01/", "no IPv4 address"),
    ("https://127.1/", "no IPv4 address"),
    ("https://127.0.1/", "no IPv4 address"),
    ("https://127.0.0.1./", "no IPv4 address"),
    ("https://127.0.0.1.1/", "no IPv4 address"),
    ("https://127.0.0.256/", "no IPv4 address"),
    ("https://0/", "no IPv4 address"),
    ("https://1.2.3.4.5/", "no IPv4 address"),
    ("https://example.0x7f/", "no IPv4 address"),
    ("https://8.8.8.8./", "no IPv4 address"),
    ("https://127.0.0.1/", "127.0.0.1, which may not be reached: loopback"),
    ("https://127.0.0.1:8080/", "loopback"),
    ("https://0.0.0.0/", "unspecified"),
    ("https://10.0.0.1/", "private"),
    ("https://169.254.169.254/latest/meta-data/", "the metadata of a cloud"),
    ("https://[::]/", "unspecified"),
    ("https://[::1]/", "loopback"),
    ("https://[0:0:0:0:0:0:0:1]/", "loopback"),
    ("https://[::ffff:127.0.0.1]/", "IPv4-mapped"),
    ("https://[::ffff:7f00:1]/", "IPv4-mapped"),
    ("https://[0:0:0:0:0:ffff:127.0.0.1]/", "IPv4-mapped"),
    ("https://[::127.0.0.1]/", "IPv4-compatible"),
    ("https://[64:ff9b::7f00:1]/", "NAT64"),
    ("https://[2002:7f00:1::]/", "6to4"),
    ("https://[fe80::1%25eth0]/", "without a zone"),
    ("https://[fe80::1%eth0]/", "hexadecimal"),
    ("https://[fe80::1]/", "link-local"),
    ("https://[v1.127.0.0.1]/", "no IPv6 address"),
    ("https://[127.0.0.1]/", "no IPv6 address"),
    ("https://[]/", "no IPv6 address"),
    ("https://[::1/", "no host"),
    ("https://::1/", "no host"),
    ("https://[::1]x/", "no host"),
    ("https://x[::1]/", "no host"),
    ("https://hooks.example.com:0/", "port"),
    ("https://hooks.example.com:/", "port"),
    ("https://hooks.example.com:00443/", "port"),
    ("https://hooks.example.com:65536/", "port"),
    ("https://hooks.example.com:-1/", "port"),
    ("https://hooks.example.com:443:80/", "port"),
    ("https://hooks.example.com:44a/", "port"),
    ("https://localhost/", "loopback"),
    ("https://LocalHost:3000/", "loopback"),
    ("https://a.b.localhost/", "loopback"),
    ("https://localhost./", "ends with a dot"),
    ("https://hooks.example.com./", "ends with a dot"),
    ("https://hooks..example.com/", "is no name"),
    ("https://.example.com/", "is no name"),
    ("https://-a.example.com/", "is no name"),
    ("https://a-.example.com/", "is no name"),
    ("https://hooks,example/", "is no name"),
    ("https://hooks*.example/", "is no name"),
    ("https://" + "a" * 64 + ".example/", "is no name"),
    ("https://" + "a." * 127 + "a/", "is no name"),
    ("https://hooks.example.com/" + "a" * 2_048, "longer than 2048"),
]


@pytest.mark.parametrize(("text", "url", "port"), LET_THROUGH, ids=[text for text, _, _ in LET_THROUGH])
def test_a_url_that_leads_out_is_read_and_has_one_spelling(text, url, port):
    target = read_url(text, plain_http=True)
    assert (target.url, target.port) == (url, port)


@pytest.mark.parametrize(("text", "words"), REFUSED_URLS, ids=[ascii(text)[1:60] for text, _ in REFUSED_URLS])
def test_a_url_that_leads_inside_or_is_oddly_spelt_is_refused_in_one_sentence(text, words):
    with pytest.raises(SettingsError) as refused:
        read_url(text)
    sentence = str(refused.value)
    assert words in sentence
    assert sentence.startswith("The URL")
    assert sentence.endswith(".")
    assert "\n" not in sentence


def test_plain_http_is_refused_unless_it_is_wanted():
    with pytest.raises(SettingsError, match=r"anybody on the way can read: .*plain_http in \[events\]"):
        read_url("http://hooks.example.com/")
    assert read_url("http://hooks.example.com/", plain_http=True).port == 80


@pytest.mark.parametrize(
    ("text", "allowed"),
    [
        ("https://localhost/", "127.0.0.0/8"),
        ("https://app.localhost/", "127.0.0.1/32"),
        ("https://localhost/", "::1/128"),
        ("https://127.0.0.1/", "127.0.0.1/32"),
        ("https://10.0.0.1:8443/", "10.0.0.0/8"),
        ("https://[fd00::1]/", "fd00::/8"),
        ("https://[::ffff:10.0.0.1]/", "10.0.0.0/8"),
    ],
)
def test_what_is_inside_is_let_through_by_a_network_that_is_allowed(text, allowed):
    with pytest.raises(SettingsError, match="may not be reached"):
        read_url(text, allowed=networks("192.168.0.0/16"))
    assert isinstance(read_url(text, allowed=networks(allowed)), Target)


@pytest.mark.parametrize(
    ("text", "advises"),
    [
        ("https://10.0.0.1/", True),
        ("https://127.0.0.1/", True),
        ("https://localhost/", True),
        ("https://[fd00::1]/", True),
        ("https://100.64.0.1/", True),
        ("https://169.254.169.254/", False),
        ("https://[fd00:ec2::254]/", False),
        ("https://0.0.0.0/", False),
        ("https://[::ffff:10.0.0.1]/", False),
    ],
)
def test_only_of_what_an_operator_may_mean_it_is_said_how_to_allow_it(text, advises):
    with pytest.raises(SettingsError) as refused:
        read_url(text)
    assert str(refused.value).endswith(", unless its network is among networks in [events].") is advises


def test_an_address_in_a_url_is_given_as_one():
    assert read_url("https://8.8.8.8/").address == IPv4Address("8.8.8.8")
    assert read_url("https://[2606:4700::1111]/").address == IPv6Address("2606:4700::1111")
    assert read_url("https://hooks.example.com/").address is None


URLS = st.one_of(
    st.text(max_size=60),
    st.text(max_size=60).map("https://{}".format),
    st.text("01234567.:x[]%@/?#\\af-", max_size=30).map("https://{}/".format),
    st.ip_addresses().map(lambda address: f"https://[{address}]" if address.version == 6 else f"https://{address}"),
)


@given(URLS, st.booleans())
def test_reading_a_url_ends_with_a_target_or_a_sentence_whatever_it_is(text, plain_http):
    try:
        target = read_url(text, plain_http=plain_http)
    except SettingsError:
        return
    assert read_url(target.url, plain_http=plain_http) == target
    assert target.address is None or judge(target.address) is None
    asked = URL(target.url, encoded=True)
    assert (asked.raw_host, asked.port, asked.raw_path_qs) == (target.host, target.port, target.path)
    assert str(asked) == target.url
