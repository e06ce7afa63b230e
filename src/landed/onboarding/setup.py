"""`landed setup`: Vonage's side and ours brought to where receipts come, by changes that are shown before.

What is there is looked at first, and only what differs is changed, so that a second run changes nothing and one that
was interrupted is gone on with: the key is on the disk before Vonage hears of it, and the application is known again by
it; a number that was bought and not yet linked is linked before another one is bought.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from decimal import Decimal, InvalidOperation
from http import HTTPStatus
from pathlib import Path

import msgspec

from landed.errors import Refused, SettingsError, SurroundingsError
from landed.files import PRIVATE, put
from landed.onboarding.addresses import Addresses
from landed.onboarding.settings_file import text_of_new, values_in, with_values
from landed.vonage.configuration import SMS, Application, Configuration, Number, Offer, Webhooks
from landed.vonage.keys import key_pair, public_key_of
from landed.vonage.sdk import PKCS8

NONE = "none"
# Refusals that may be about the URLs themselves; 420 is the older APIs' own.
ABOUT_URLS = (HTTPStatus.BAD_REQUEST, 420)


class Wishes(msgspec.Struct, frozen=True, kw_only=True):
    """What somebody wants set up. Without `application_id` it is the one that our key belongs to, or a new one.

    `private_key` (PEM) is the one of the settings, which stands in `key_file` where there is none.
    """

    addresses: Addresses
    public_url: str
    api_key: str
    name: str
    key_file: Path
    settings_file: Path
    application_id: str | None = None
    private_key: str | None = None
    new_key: bool = False
    number: str | None = None
    buy_country: str | None = None
    has_messages: bool = True
    has_sms: bool = True


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """One change, before it is made: `what` in a line, and of a value the one before. `cost` is EUR a month."""

    what: str
    make: Callable[[], None]
    before: str = ""
    cost: str = ""


class Setup:
    """What is there, and what is to be changed; `look` first."""

    def __init__(self, configuration: Configuration, wishes: Wishes) -> None:
        self._vonage = configuration
        self._wishes = wishes
        self._public_key = _public(wishes.private_key or _key_in(wishes.key_file), wishes.key_file)
        self._application: Application | None = None
        self._number: Number | None = None
        self._offer: Offer | None = None
        self._account: Webhooks | None = None
        self._numbers: tuple[Number, ...] = ()
        self._settings = ""

    def look(self) -> None:
        """Look at all that is there. SettingsError where a wish does not fit to it."""
        wishes = self._wishes
        if wishes.has_messages:
            self._application = self._find_application()
        self._numbers = tuple(self._vonage.numbers())
        self._find_number()
        if wishes.has_sms:
            self._account = self._vonage.webhooks()
        if not str(wishes.key_file).isprintable():
            raise SettingsError("The name of the key's file must be one that can be written down: give another --key.")
        self._settings = _text_of(wishes.settings_file)
        values_in(self._settings)

    def changes(self) -> list[Change]:
        """All that is to be done, in that order; none when everything is as it should be."""
        return [
            *(self._application_changes() if self._wishes.has_messages else ()),
            *self._number_changes(),
            *self._settings_changes(),
            *(self._account_changes() if self._wishes.has_sms else ()),
        ]

    def notes(self) -> Iterator[str]:
        """What a person may want to know beside the changes."""
        application, wishes = self._application, self._wishes
        if application is not None and not self._public_key and not wishes.new_key:
            yield (
                f"The private key of application {application.id} was shown once, when it was made: put its path into "
                "VONAGE_PRIVATE_KEY, or give the application another one with --new-key."
            )
        number = self._number
        if number is not None and number.mo_http_url and wishes.has_sms:
            yield f"The number +{number.msisdn} has an inbound webhook of its own, which stays: {number.mo_http_url}"
        if number is None and self._offer is None:
            free = [each.msisdn for each in self._numbers if not each.application_id]
            linked = [each for each in self._numbers if application and each.application_id == application.id]
            if free and not linked:
                yield f"No number is linked to the application; --number {free[0]} links one of the account's."
            elif not self._numbers:
                yield "The account has no number; --buy-number CC buys one of a country, such as GB."

    # Looking.

    def _find_application(self) -> Application | None:
        wishes = self._wishes
        if wishes.application_id is not None:
            try:
                return self._with_fitting_key(self._vonage.application(wishes.application_id))
            except Refused as error:
                if error.status != HTTPStatus.NOT_FOUND:
                    raise
                raise SettingsError(
                    f"The account has no application {wishes.application_id}: mend VONAGE_APPLICATION_ID, or leave it "
                    "out, and one is made."
                ) from error
        applications = list(self._vonage.applications())
        if found := [each for each in applications if _is_same(self._public_key, each.public_key)]:
            return found[0]
        if found := [each for each in applications if each.name == wishes.name]:
            raise SettingsError(
                f"The account has an application {wishes.name} already, with another key: name it with --application "
                f"{found[0].id}, or give the new one another --name."
            )
        return None

    def _with_fitting_key(self, application: Application) -> Application:
        has_other = self._public_key and not _is_same(self._public_key, application.public_key)
        if has_other and not self._wishes.new_key:
            raise SettingsError(
                f"The private key that is set is not the one of application {application.id}: set the right one, or "
                "give the application this one with --new-key."
            )
        return application

    def _find_number(self) -> None:
        wishes, numbers = self._wishes, self._numbers
        if wishes.number is not None:
            self._number = next((each for each in numbers if each.msisdn == wishes.number), None)
            if self._number is None:
                has = ", ".join(each.msisdn for each in numbers[:5]) or NONE
                raise SettingsError(f"The account has no number {wishes.number}; it has {has}.")
        elif wishes.buy_country is not None:
            self._number = self._own_number(wishes.buy_country)
            if self._number is None:
                self._offer = _cheapest(self._vonage.offers(wishes.buy_country), wishes.buy_country)

    def _own_number(self, country: str) -> Number | None:
        """One of that country which is linked to the application, or to nothing yet."""
        of_country = [each for each in self._numbers if each.country == country and SMS in each.features]
        mine = self._application.id if self._application else self._wishes.application_id
        linked = [each for each in of_country if mine and each.application_id == mine]
        free = [each for each in of_country if not (each.application_id or each.mo_http_url)]
        return next(iter(linked + free), None)

    # Changes.

    def _application_changes(self) -> Iterator[Change]:
        wishes, application = self._wishes, self._application
        if not self._public_key and (application is None or wishes.new_key):
            yield Change(what=f"make a private key, kept in {wishes.key_file}, for you alone", make=self._make_key)
        wanted = wishes.addresses.application
        if application is None:
            yield Change(
                what=f"create the application {wishes.name} with the Messages capability\n"
                f"  Status URL  {wanted.receipts}\n  Inbound URL {wanted.inbound}",
                make=self._create_application,
            )
            return
        if wishes.new_key and not _is_same(self._public_key, application.public_key):
            yield Change(
                what=f"give application {application.id} the key in {wishes.key_file}; the old one holds no more",
                make=self._change_key,
            )
        if application.messages is None:
            yield Change(what=f"give application {application.id} the Messages capability", make=self._change_webhooks)
        elif application.webhooks != wanted:
            had = application.webhooks
            yield Change(
                what=f"set the URLs of application {application.id}\n"
                f"  Status URL  {wanted.receipts}\n  Inbound URL {wanted.inbound}",
                before=f"{had.receipts or NONE}, {had.inbound or NONE}",
                make=self._change_webhooks,
            )

    def _number_changes(self) -> Iterator[Change]:
        offer, number = self._offer, self._number
        if offer is not None:
            cost = offer.cost or "an unknown price"
            yield Change(
                what=f"buy the number +{offer.msisdn} ({offer.country}) for EUR {cost} a month",
                cost=cost,
                make=lambda: self._buy(offer),
            )
        chosen = offer or number
        if chosen is None or not self._wishes.has_messages:
            return
        had, application = number.application_id if number else "", self._application
        # An application that is yet to be made has no number.
        if application is None or had != application.id:
            yield Change(
                what=f"link the number +{chosen.msisdn} to the application",
                before=f"application {had}" if had else "",
                make=self._link,
            )

    def _settings_changes(self) -> Iterator[Change]:
        text, values = self._settings, self._wanted_values()
        there = values_in(text)
        different = {name: value for name, value in values.items() if there.get(name) != value}
        new = self._application is None and self._wishes.has_messages
        # Its id is known when it has been made.
        names = dict.fromkeys([*different, *(["vonage_application_id"] if new else [])])
        if names:
            yield Change(what=f"write {self._wishes.settings_file}: {', '.join(names)}", make=self._write_settings)

    def _account_changes(self) -> Iterator[Change]:
        wanted, had = self._wishes.addresses.account, self._account
        if had is not None and had != wanted:
            yield Change(
                what="set the account's SMS webhooks, which hold for all that uses its SMS API\n"
                f"  Delivery receipts {wanted.receipts}\n  Inbound SMS       {wanted.inbound}",
                before=f"{had.receipts or NONE}, {had.inbound or NONE}",
                make=self._change_account,
            )

    def _wanted_values(self) -> dict[str, str]:
        """What `landed.toml` is to say, as far as it is known yet."""
        wishes = self._wishes
        number = self._number.msisdn if self._number else self._offer.msisdn if self._offer else ""
        values = {"vonage_api_key": wishes.api_key, "public_url": wishes.public_url}
        if wishes.has_messages and self._application is not None:
            values["vonage_application_id"] = self._application.id
        if (
            wishes.has_messages
            and wishes.private_key is None
            and (self._public_key or wishes.new_key or self._application is None)
        ):
            values["vonage_private_key"] = str(wishes.key_file)
        return values | ({"sender": number} if number else {})

    # Making them.

    def _make_key(self) -> None:
        key, public_key = key_pair()
        file = self._wishes.key_file
        try:
            put(file, key.encode(), PRIVATE)
        except OSError as error:
            raise SurroundingsError(f"The private key cannot be kept in {file}: {error.strerror}.") from error
        self._public_key = public_key

    def _create_application(self) -> None:
        wanted = self._wishes.addresses.application
        self._application = self._vonage.create(self._wishes.name, self._public_key, wanted)
        _check_echo(self._application.webhooks, wanted)

    def _change_key(self) -> None:
        application = self._mine()
        self._application = self._vonage.change(application, public_key=self._public_key)
        if not _is_same(self._public_key, self._application.public_key):
            raise SurroundingsError("Vonage took the application's new key, and shows another one: run setup again.")

    def _change_webhooks(self) -> None:
        wanted = self._wishes.addresses.application
        self._application = self._vonage.change(self._mine(), webhooks=wanted)
        _check_echo(self._application.webhooks, wanted)

    def _buy(self, offer: Offer) -> None:
        self._vonage.buy(offer)
        self._number = Number(country=offer.country, msisdn=offer.msisdn)

    def _link(self) -> None:
        if self._number is not None:
            self._vonage.link(self._number, self._mine().id)

    def _write_settings(self) -> None:
        file = self._wishes.settings_file
        text = with_values(self._settings, self._wanted_values())
        try:
            mode = file.stat().st_mode & 0o777 if file.exists() else PRIVATE
            # Where the file is a link, what it leads to.
            put(file.resolve(), text.encode(), mode)
        except OSError as error:
            raise SurroundingsError(f"{file} cannot be written: {error.strerror}.") from error

    def _change_account(self) -> None:
        wanted = self._wishes.addresses.account
        try:
            echo = self._vonage.change_webhooks(receipts=wanted.receipts, inbound=wanted.inbound)
        except Refused as error:
            if error.status not in ABOUT_URLS:
                raise
            raise SurroundingsError(
                f"{str(error).rstrip('.')}. It looks whether they answer 200 before it saves them: start `landed "
                "serve` and see that the public URL leads to it, then run setup again."
            ) from error
        _check_echo(echo, wanted)

    def _mine(self) -> Application:
        if self._application is None:
            raise SurroundingsError("There is no application yet: run setup again.")
        return self._application


def steps_by_hand(*, has_messages: bool, has_sms: bool, has_secret: bool) -> Iterator[str]:
    """What no API of Vonage's can set, in the words of its dashboard (https://dashboard.nexmo.com/settings)."""
    if has_messages and has_sms:
        yield (
            'API settings → SMS settings: choose "Messages API" if you send SMS through the Messages API, else "SMS '
            'API". Only one can be chosen, and it decides in which form and to which URL the receipts of SMS come.'
        )
    elif has_messages:
        yield 'API settings → SMS settings: choose "Messages API", so that SMS have their receipts in its form.'
    elif has_sms:
        yield 'API settings → SMS settings: choose "SMS API".'
    if has_sms:
        yield 'API settings → SMS settings → Webhook format: any is taken; "POST-JSON" is Vonage\'s advice.'
    if not has_secret:
        yield "API settings → Signature secret: put it into VONAGE_SIGNATURE_SECRET, and each receipt is checked."
    if has_sms:
        yield (
            "Ask Vonage's support (https://api.support.vonage.com) to sign the SMS API's webhooks of your API key; "
            'without that anybody can send you its receipts. Then set sms_signature = "required".'
        )


def _check_echo(echo: Webhooks, wanted: Webhooks) -> None:
    if echo != wanted:
        raise SurroundingsError(
            f"Vonage took the URLs, but says that they are {echo.receipts or NONE} and {echo.inbound or NONE}: set "
            f"{wanted.receipts} and {wanted.inbound} in its dashboard."
        )


def _key_in(file: Path) -> str | None:
    """A key that an earlier run has made."""
    try:
        text = file.read_text("ascii")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"The private key in {file} cannot be read: {type(error).__name__}.") from error
    if PKCS8 not in text:
        raise SettingsError(f"{file} is no private key such as Vonage's: name another file with --key.")
    return text


def _public(private_key: str | None, file: Path) -> str:
    """The public half of our key; empty where there is none."""
    try:
        return public_key_of(private_key) if private_key else ""
    except ValueError as error:
        raise SettingsError(f"The private key in VONAGE_PRIVATE_KEY or {file} is broken: take a whole copy.") from error


def _text_of(file: Path) -> str:
    try:
        # As it is, with the ends that its lines have.
        return file.read_bytes().decode("utf-8")
    except FileNotFoundError:
        return text_of_new()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{file} cannot be read: {type(error).__name__}.") from error


def _is_same(key: str, other: str) -> bool:
    """Whether two keys in PEM are the same, however their lines end."""
    return bool(key) and "".join(key.split()) == "".join(other.split())


def _cheapest(offers: tuple[Offer, ...], country: str) -> Offer:
    def cost(offer: Offer) -> Decimal:
        try:
            return Decimal(offer.cost)
        except InvalidOperation:
            return Decimal("Infinity")

    if not offers:
        raise SettingsError(f"No number of {country} that takes SMS is for sale: try another country.")
    return min(offers, key=lambda offer: (cost(offer), offer.msisdn))
