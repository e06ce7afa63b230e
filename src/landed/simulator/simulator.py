"""The simulated Vonage itself: takes sends, plans what becomes of each, and has it said when its time comes.

The truth of a message (did it reach the handset, was it read, when) is kept apart from what its receipts claim. It
knows no HTTP: `landed.simulator.app` is in front of it, `landed.simulator.callbacks` behind.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import count, cycle

import msgspec

from landed.domain.lifecycle import status_of
from landed.domain.meanings import REASONS
from landed.domain.numbers import normal_number
from landed.domain.receipt import Api, Receipt, Segment, Workflow
from landed.simulator.account import THROUGHPUT, Account, SmsSetting, Transport
from landed.simulator.callbacks import COPY_SECONDS, KEPT_MAX, Callback, Caller, Form
from landed.simulator.clock import Clock
from landed.simulator.dice import Dice
from landed.simulator.fates import CARDS, FATES, LAST_PART_REFUSED, REFUSED, WORDS, Word, code_of, fate_named
from landed.simulator.networks import CHANNELS, WITH_NETWORK, Network, Networks, price_of
from landed.simulator.plan import Claim, Part, Plan, Traits, plan_of
from landed.vonage.messages import Version
from landed.vonage.text import Encoding, segments_of

CURRENCY = "EUR"
SMS_PRICE = Decimal("0.00000001")
# The well-known numbers take so long, under every seed.
CARD_LATENCY_SECONDS = 3.0
# Segments of one text come so far apart.
SEGMENT_SECONDS = 0.4
# Of these channels a message is paid for when it was delivered, of others when it was submitted.
# https://developer.vonage.com/en/messages/concepts/messages-status-callbacks
PAID_WHEN_DELIVERED = frozenset({"whatsapp", "messenger", "viber_service"})
FREE = frozenset({"opted-out"})

THROTTLED, NO_CREDIT = "1", "9"


class Send(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What an application wants sent, whichever API it asked. `url` is where it wants the receipts of this message.

    `version` is the form of the Messages API's webhooks that it asked for. `failover` is what to send when this one
    is rejected.
    """

    api: Api
    to: str
    sender: str
    channel: str = "sms"
    text: str = ""
    encoding: Encoding | None = None
    client_ref: str | None = None
    ttl_seconds: float | None = None
    url: str | None = None
    version: Version = "v1"
    wants_receipts: bool = True
    application_id: str | None = None
    failover: tuple[Send, ...] = ()


def segments_in(send: Send) -> int:
    """Of how many segments a send is."""
    return len(segments_of(send.text, send.encoding)) if send.channel == "sms" else 1


class Message(msgspec.Struct, kw_only=True, gc=False):
    """A message that was taken, or a part of one: its truth is in `plan`, what was said of it so far in `said`."""

    send: Send
    message_id: str
    sent_at: datetime
    segments: int
    network: Network
    fate: str
    plan: Plan
    price: Decimal
    workflow: Workflow | None = None
    said: list[Receipt] = []

    @property
    def arrived_at(self) -> datetime | None:
        """When the handset had it, if ever."""
        return self._at(self.plan.arrived_seconds)

    @property
    def read_at(self) -> datetime | None:
        """When it was read, if ever."""
        return self._at(self.plan.read_seconds)

    def _at(self, seconds: float | None) -> datetime | None:
        return None if seconds is None else self.sent_at + timedelta(seconds=seconds)


class Refused(Exception):
    """The send is not taken: `code` is the status that the SMS API gives, `wait_ms` how long to wait."""

    def __init__(self, code: str, wait_ms: int = 0) -> None:
        super().__init__(code)
        self.code = code
        self.wait_ms = wait_ms


class Simulator:
    """Takes sends and plays what becomes of them, in its clock's time."""

    def __init__(
        self, account: Account, caller: Caller, clock: Clock, dice: Dice, changed_networks: Sequence[Network] = ()
    ) -> None:
        self.account = account
        self.caller = caller
        self.clock = clock
        self.dice = dice
        self.networks = Networks(dice, changed_networks)
        # Recipients whose fate somebody chose.
        self.fates: dict[str, str] = {}
        self.messages: dict[str, Message] = {}
        self._numbers = count(1)
        self._workflows = count(1)
        self._formats = cycle(Transport)
        self._recent: deque[datetime] = deque()

    def take(self, send: Send) -> list[Message]:
        """Take a message; the SMS API's long texts become one for each part. Refused says what Vonage would say."""
        self._admit(send)
        workflow = None
        if send.failover:
            workflow_id = self.dice.hex(32, "workflow", next(self._workflows)) + self.dice.hex(23, "workflow's rest")
            workflow = Workflow(workflow_id=workflow_id, items_number="1", items_total=str(1 + len(send.failover)))
        return self._sent(send, workflow)

    def choose(self, recipient: str, fate: str) -> None:
        """Choose what becomes of messages to a recipient; an empty fate leaves it to chance again."""
        if fate:
            fate_named(fate)
            self.fates[normal_number(recipient)] = fate
        else:
            self.fates.pop(normal_number(recipient), None)

    def receipt_of(self, message: Message, claim: Claim, occurred_at: datetime) -> Receipt | None:
        """What Vonage says at a claim; None where the API whose form it has says nothing of the kind."""
        send, form = message.send, self.form_api(message.send)
        said = WORDS[form][claim.word]
        if said is None:
            return None
        is_status = form is Api.MESSAGES
        # What is refused without a reason has no code in the Messages API, and never 0, which is success, in the other.
        is_odd = form is Api.SMS and claim.word is Word.REJECTED and not claim.reason
        code = code_of(form, "unknown" if is_odd else claim.reason)
        segments = tuple(
            Segment(
                provider_status=WORDS[Api.MESSAGES][segment.word] or "submitted",
                occurred_at=_whole(message.sent_at + timedelta(seconds=segment.occurred_seconds)),
            )
            for segment in (claim.segments if is_status else ())
        )
        price = self._said_price(message, claim.word) if is_status else message.price.quantize(SMS_PRICE)
        detail = REASONS[claim.reason].meaning if is_status and claim.reason in REASONS else None
        tells_segments = is_status and send.channel == "sms" and (segments or claim.word is Word.ACCEPTED)
        return Receipt(
            api=form,
            message_id=message.message_id,
            channel=send.channel,
            status=status_of(form, said, code, message.segments, segments),
            provider_status=said,
            to=send.to,
            sender=send.sender,
            network=message.network.code or None if send.channel in WITH_NETWORK else None,
            code=code,
            detail=detail,
            client_ref=send.client_ref,
            occurred_at=_whole(occurred_at),
            price=price,
            currency=CURRENCY if is_status and price is not None else None,
            # The SMS API writes its times without a zone.
            zone_assumed=not is_status,
            segments=message.segments if tells_segments else None,
            segment_receipts=segments,
            workflow=message.workflow if is_status else None,
            api_key=None if is_status else self.account.api_key,
        )

    def form_api(self, send: Send) -> Api:
        """In which API's form receipts of a send come: its own, unless the account's setting says otherwise."""
        setting = self.account.settings.sms_setting
        if setting is None or send.channel != "sms":
            return send.api
        return Api.SMS if setting is SmsSetting.SMS else Api.MESSAGES

    def url_of(self, send: Send) -> str:
        """Where receipts of a send go: its own address, its application's, else its account's; empty is nowhere.

        https://developer.vonage.com/en/messages/code-snippets/configure-webhooks
        """
        if send.url:
            return send.url
        application = self.account.applications.get(send.application_id or "")
        if application is not None and self.form_api(send) is Api.MESSAGES and application.status_url:
            return application.status_url
        return self.account.settings.receipt_url

    def plan(self, send: Send, workflow: Workflow | None = None) -> list[Message]:
        """The messages of a send with all that is to become of them; nothing is done yet."""
        of = segments_in(send)
        parts = [[number] for number in range(of)] if send.api is Api.SMS else [list(range(of))]
        return [self._planned(send, numbers, of, workflow) for numbers in parts]

    def callback_of(
        self, message: Message, claim: Claim, due_at: datetime, occurred_at: datetime | None = None
    ) -> Callback | None:
        """The call that says a claim; None where nothing is said, or nobody is to hear it."""
        if occurred_at is None:
            occurred_at = message.sent_at + timedelta(seconds=claim.occurred_seconds)
        receipt = self.receipt_of(message, claim, occurred_at)
        if receipt is None:
            return None
        if not message.said or message.said[-1] != receipt:
            message.said.append(receipt)
        url = self.url_of(message.send)
        if not url or not message.send.wants_receipts:
            return None
        return Callback(
            number=0,
            message_id=message.message_id,
            url=url,
            form=self._form(message, claim),
            receipt=receipt,
            due_at=due_at,
            signature=FATES[message.fate].signature,
        )

    def _admit(self, send: Send) -> None:
        if send.to in REFUSED:
            raise Refused(REFUSED[send.to], wait_ms=1_000)
        throughput = self.account.settings.throughput
        if throughput is None:
            throughput = 0 if self.clock.is_stepped else THROUGHPUT
        if throughput:
            now, second = self.clock.now(), timedelta(seconds=1)
            while self._recent and now - self._recent[0] >= second:
                self._recent.popleft()
            if len(self._recent) >= throughput:
                raise Refused(THROTTLED, wait_ms=1 + (self._recent[0] + second - now) // timedelta(milliseconds=1))
            self._recent.append(now)
        if self.account.balance < self._price(send, segments_in(send)):
            raise Refused(NO_CREDIT)

    def _sent(self, send: Send, workflow: Workflow | None) -> list[Message]:
        sent = self.plan(send, workflow)
        if send.to == LAST_PART_REFUSED and len(sent) > 1:
            sent.pop()
        for message in sent:
            self.account.balance -= message.price
            self.messages[message.message_id] = message
            if len(self.messages) > KEPT_MAX:
                del self.messages[next(iter(self.messages))]
            for claim in message.plan.claims:
                self._later(message, claim)
        return sent

    def _planned(self, send: Send, numbers: Sequence[int], of: int, workflow: Workflow | None) -> Message:
        """A message of these segments, of so many."""
        message_id = self.dice.uuid("message", next(self._numbers))
        network = CHANNELS.get(send.channel) or self.networks.network_of(send.to)
        fate = self.fates.get(send.to) or self.networks.fate_of(network, send.sender, send.to, message_id)
        if send.to in CARDS:
            latency, is_card = CARD_LATENCY_SECONDS, True
        else:
            latency = self.dice.around(network.latency_seconds, network.spread, "latency", message_id)
            is_card = False
        traits = Traits(
            ttl_seconds=send.ttl_seconds,
            repeats=not is_card and self.dice.happens(network.duplicates, "duplicates", message_id),
            is_disordered=not is_card and self.dice.happens(network.disorder, "disorder", message_id),
            tells_read=send.channel in CHANNELS,
        )
        plan = plan_of(
            FATES[fate],
            [
                Part(latency_seconds=latency + SEGMENT_SECONDS * number, is_last=of > 1 and number == of - 1)
                for number in numbers
            ],
            traits,
        )
        return Message(
            send=send,
            message_id=message_id,
            sent_at=self.clock.now(),
            segments=len(numbers),
            network=network,
            fate=fate,
            plan=plan,
            price=Decimal(0) if fate in FREE else self._price(send, len(numbers)),
            workflow=workflow,
            said=[],
        )

    def _later(self, message: Message, claim: Claim) -> None:
        for copy in range(claim.copies):
            due_at = message.sent_at + timedelta(seconds=claim.after_seconds + copy * COPY_SECONDS)
            self.clock.at(due_at, self._saying(message, claim, due_at, is_first=not copy))

    def _saying(self, message: Message, claim: Claim, due_at: datetime, *, is_first: bool) -> Callable[[], None]:
        def say() -> None:
            callback = self.callback_of(message, claim, due_at)
            if callback is not None:
                self.caller.post(callback)
            if is_first and WORDS[Api.MESSAGES][claim.word] == "rejected":
                self._fall_over(message)

        return say

    def _fall_over(self, message: Message) -> None:
        """Send the next message of a workflow, in the place of one that was rejected."""
        following, workflow = message.send.failover, message.workflow
        if following and workflow is not None:
            number = int(workflow.items_number or 0) + 1
            send = msgspec.structs.replace(following[0], failover=following[1:])
            try:
                self._admit(send)
            except Refused:
                return
            self._sent(send, msgspec.structs.replace(workflow, items_number=str(number)))

    def _form(self, message: Message, claim: Claim) -> Form:
        send = message.send
        if self.form_api(send) is Api.SMS:
            transport = self.account.settings.webhook_format or next(self._formats)
            return Form(api=Api.SMS, transport=transport)
        more: Mapping[str, object] = {}
        if send.channel == "whatsapp" and claim.word is Word.DELIVERED:
            more = {"whatsapp": {"pricing": {"type": "regular", "pricing_model": "PMP", "category": "utility"}}}
        return Form(api=Api.MESSAGES, version=send.version, application_id=send.application_id, more=more)

    def _price(self, send: Send, segments: int) -> Decimal:
        if send.channel in CHANNELS:
            return Decimal(0) if send.channel == "whatsapp" else price_of("")
        return price_of(self.networks.network_of(send.to).country) * segments

    def _said_price(self, message: Message, word: Word) -> Decimal | None:
        """The price that the Messages API says with a status; RCS has none."""
        channel = message.send.channel
        when = Word.DELIVERED if channel in PAID_WHEN_DELIVERED else Word.ACCEPTED
        return message.price if word is when and channel != "rcs" else None


def _whole(moment: datetime) -> datetime:
    return moment.replace(microsecond=0)
