"""A platform's orders mapped by a file: for each field of OrderPlaced an expression, a constant or a table. README: `generic.md`.

The contract says which fields there are, and what kind each is. A file is checked as a whole; every mistake is named by its field.
"""

import re
import tomllib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cache
from importlib.resources import files
from types import NoneType
from typing import Any, cast, get_args, get_origin, get_type_hints
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec
from oms_contracts.channel import OrderPlaced
from oms_contracts.message import Value
from oms_contracts.order_parts import DiscountShare, LineItem, OrderPayment, ShippingLine

from oms_adapters.expressions import Expression, InvalidExpression, Scope, expression_of
from oms_adapters.money import NotAnAmount, decimal_of
from oms_adapters.parts import Adapter, Discounts, country_of, currency_of, unit_price_of
from oms_adapters.reading import MAX_CODE_CHARACTERS, Reading, Source, attributes_of
from oms_adapters.results import Reason, Standing

MAX_FILE_CHARACTERS = 100_000
MAX_FORMAT_CHARACTERS = 50
SHIPPED = ("amazon", "saleor")
"""The mappings that come with the package."""

_AMOUNTS = {"total", "unit_price", "amount", "price", "subtotal"}
_QUANTITIES = {"quantity", "score"}
_IDS = {"id", "line_id", "channel_reference", "discount_id", "parent_line_id"}
_CODES = {"sku", "location"}
_PROSE = {"note", "message", "token", "user_agent"}
_RULE = {"from", "constant", "default", "values", "exponent", "absolute", "position", "format", "time_zone", "decimal_comma"}
_ENTRY = {"each", "when"}
_FILLED = {LineItem: {"total", "line_id"}, ShippingLine: {"total", "id"}, OrderPayment: {"id"}, OrderPlaced: {"channel"}}
"""Required fields that are filled in where a file does not map them."""


_ENDS = re.compile(r"\[\]|\.")
"""Where a path may be cut to have one that it lies below."""


class InvalidMapping(ValueError):
    """The file is no mapping; `reasons` name each field and its mistake."""

    def __init__(self, reasons: list[Reason]) -> None:
        super().__init__("; ".join(map(str, reasons)))
        self.reasons = tuple(reasons)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Field:
    """Where one value comes from."""

    kind: str
    source: Expression | None = None
    constant: Any = None
    default: Any = None
    values: Mapping[str, Any] | None = None
    exponent: int | None = None
    absolute: bool = False
    position: bool = False
    layout: str | None = None
    zone: ZoneInfo | None = None
    decimal_comma: bool = False


@dataclass(frozen=True, slots=True)
class _Table:
    """One object, or one for each entry that `each` finds, where `when` holds."""

    cls: type[Any]
    members: Mapping[str, Any]
    each: Expression | None
    when: Expression | None


@dataclass(frozen=True, slots=True)
class _Pairs:
    """Attributes: a name and a value for each entry."""

    each: Expression | None
    name: _Field
    value: _Field


@dataclass(frozen=True, slots=True)
class _Refusal:
    field: str
    when: Expression
    reason: str


@dataclass(slots=True)
class _File:
    """A file being checked."""

    reasons: list[Reason] = field(default_factory=list[Reason])
    consumed: dict[str, str] = field(default_factory=dict[str, str])
    deciding: frozenset[str] = frozenset()
    whole: set[str] = field(default_factory=set[str])
    """Consumed with all that lies below."""

    def refuse(self, place: str, reason: str) -> None:
        self.reasons.append(Reason(place, reason))

    def expression(self, place: str, text: Any, entry: frozenset[str], ours: str) -> tuple[Expression | None, frozenset[str]]:
        """The expression, and where it leads. `ours` is noted as what those paths become."""
        if not isinstance(text, str):
            self.refuse(place, "must be an expression, as text")
            return None, frozenset()
        try:
            found = expression_of(text)
        except InvalidExpression as error:
            self.refuse(place, str(error))
            return None, frozenset()
        led, read = found.paths(entry)
        self.consume(read, ours, decides=True)
        return found, led

    def consume(self, paths: frozenset[str], ours: str, *, decides: bool = False) -> None:
        """What `paths` become. A path that only decides something becomes that, unless a value comes from it, too."""
        for path in sorted(paths):
            if path not in self.consumed or (path in self.deciding and not decides):
                self.consumed[path] = ours
                self.deciding = self.deciding | {path} if decides else self.deciding - {path}


@cache
def shipped_mapping(name: str) -> Adapter:
    """One of the SHIPPED mappings."""
    return adapter_of((files("oms_adapters") / "mappings" / f"{name}.toml").read_text("utf-8"))


def adapter_of(text: str) -> Adapter:
    """The adapter that a mapping file (TOML) describes. Raises InvalidMapping."""
    if len(text) > MAX_FILE_CHARACTERS:
        raise InvalidMapping([Reason("file", f"must have at most {MAX_FILE_CHARACTERS} characters")])
    try:
        content = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise InvalidMapping([Reason("file", f"is not TOML: {error}")]) from None
    file, whole = _File(), frozenset({""})
    for name in sorted(content.keys() - {"name", "body", "standing", "refuse", "order", "payment_rest", "ignored"}):
        file.refuse(name, "there is no such table")
    platform = content.get("name")
    if not isinstance(platform, str) or not platform:
        file.refuse("name", "must be the platform's name")
    body, _ = file.expression("body", content.get("body", "@"), whole, "-")
    file.consumed.clear()
    standing = _table_of(file, "standing", content.get("standing", {}), {"updated_at", "canceled_when", "canceled_reason"})
    updated_at, paths = file.expression("standing.updated_at", standing.get("updated_at", "`null`"), whole, "-")
    file.consume(paths, "-", decides=True)
    canceled_when, paths = file.expression("standing.canceled_when", standing.get("canceled_when", "`false`"), whole, "-")
    file.consume(paths, "-", decides=True)
    canceled_reason = standing.get("canceled_reason", "canceled in the shop")
    refusals = list(_refusals(file, content.get("refuse", [])))
    order = _checked_table(file, "order", "", content.get("order"), cls=OrderPlaced, entry=whole)
    rest = None
    if "payment_rest" in content:
        part = content["payment_rest"]
        rest = _checked_table(file, "payment_rest", "payments", part, cls=OrderPayment, entry=whole, filled={"amount"})
    ignored = _table_of(file, "ignored", content.get("ignored", {}), None)
    for path, reason in ignored.items():
        if not isinstance(reason, str):
            file.refuse(f"ignored.{path}", "must be the reason, as text")
    if file.reasons or order is None or body is None or updated_at is None or canceled_when is None:
        raise InvalidMapping(file.reasons)
    parents = {path[: end.start()] for path in file.consumed for end in _ENDS.finditer(path)}
    consumed = {path: ours for path, ours in file.consumed.items() if path in file.whole or path not in parents}
    built = _Mapping(order, rest, updated_at, canceled_when, str(canceled_reason), tuple(refusals))
    return Adapter(
        name=str(platform),
        consumed=consumed,
        single=frozenset(consumed.keys() - file.whole),
        ignored=cast(dict[str, str], ignored),
        body=lambda document: body.value(Scope(document, document)),
        standing=built.standing,
        refusal=built.refusal,
        build=built.build,
        channel=built.channel,
    )


def _table_of(file: _File, place: str, value: Any, names: set[str] | None) -> dict[str, Any]:
    if not isinstance(value, dict):
        file.refuse(place, "must be a table")
        return {}
    table = cast(dict[str, Any], value)
    for name in sorted(table.keys() - (table.keys() if names is None else names)):
        file.refuse(f"{place}.{name}", "there is no such field")
    return table


def _refusals(file: _File, value: Any) -> Iterator[_Refusal]:
    for index, entry in enumerate(cast(list[Any], value) if isinstance(value, list) else [value]):
        place = f"refuse.{index}"
        table = _table_of(file, place, entry, {"field", "when", "reason"})
        when, paths = file.expression(f"{place}.when", table.get("when"), frozenset({""}), "-")
        file.consume(paths, "-", decides=True)
        if when is not None:
            yield _Refusal(str(table.get("field", when.text)), when, str(table.get("reason", "this is not an order")))


def _checked_table(
    file: _File, place: str, ours: str, value: Any, *, cls: type[Any], entry: frozenset[str], filled: Collection[str] = ()
) -> _Table | None:
    extra = {"reduction", "subtotal"} if cls is LineItem else {"reduction"} if cls is ShippingLine else set[str]()
    hints = get_type_hints(cls)
    table = _table_of(file, place, value, {*hints, *extra, *_ENTRY})
    each = when = None
    if "each" in table:
        each, found = file.expression(f"{place}.each", table["each"], entry, ours)
        entry = frozenset(path if path.endswith("[]") else f"{path}[]" for path in found)
    if "when" in table:
        when, paths = file.expression(f"{place}.when", table["when"], entry, ours)
        file.consume(paths, ours, decides=True)
    members: dict[str, Any] = {}
    for name, part in table.items():
        if name in _ENTRY or name not in {*hints, *extra}:
            continue
        where, our_name = f"{place}.{name}", f"{ours}.{name}".lstrip(".")
        if name == "reduction":
            members[name] = {
                each_name: _checked_field(file, f"{where}.{each_name}", f"{ours}.discounts", each_part, kind="text", entry=entry)
                for each_name, each_part in _table_of(file, where, part, {"title", "kind", "code"}).items()
            }
        else:
            members[name] = _checked_member(file, where, our_name, part, cls=cls, name=name, hint=hints.get(name, int), entry=entry)
    for name in _required(cls):
        if name not in {*members, *_FILLED.get(cls, ()), *filled}:
            file.refuse(f"{place}.{name}", "is required")
    return _Table(cls, members, each, when)


def _checked_member(file: _File, place: str, ours: str, part: Any, *, cls: type[Any], name: str, hint: Any, entry: frozenset[str]) -> Any:
    hint = next((each for each in get_args(hint) if each is not NoneType), hint) if NoneType in get_args(hint) else hint
    if get_origin(hint) is dict:
        parts = cast(list[Any], part) if isinstance(part, list) else [part]
        return [_checked_pairs(file, f"{place}.{index}", ours, each, entry) for index, each in enumerate(parts)]
    if get_origin(hint) is tuple:
        inner = get_args(hint)[0]
        if isinstance(inner, type) and issubclass(inner, Value):
            parts = cast(list[Any], part) if isinstance(part, list) else [part]
            return [_checked_table(file, f"{place}.{index}", ours, each, cls=inner, entry=entry) for index, each in enumerate(parts)]
        return _checked_field(file, place, ours, part, kind="texts", entry=entry)
    if isinstance(hint, type) and issubclass(hint, Value):
        return _checked_table(file, place, ours, part, cls=hint, entry=entry)
    return _checked_field(file, place, ours, part, kind=_kind_of(cls, name, hint), entry=entry)


def _checked_pairs(file: _File, place: str, ours: str, value: Any, entry: frozenset[str]) -> _Pairs:
    table = _table_of(file, place, value, {"each", "name", "value"})
    each = None
    if "each" in table:
        each, found = file.expression(f"{place}.each", table["each"], entry, ours)
        entry = frozenset(path if path.endswith("[]") else f"{path}[]" for path in found)
    name = _checked_field(file, f"{place}.name", ours, table.get("name"), kind="text", entry=entry)
    return _Pairs(each, name, _checked_field(file, f"{place}.value", ours, table.get("value"), kind="any", entry=entry))


def _kind_of(cls: type[Any], name: str, hint: Any) -> str:
    if hint is datetime:
        return "moment"
    if hint is bool:
        return "flag"
    if hint is int:
        return "quantity" if name in _QUANTITIES else "amount"
    if name == "currency":
        return "currency"
    if name == "country":
        return "country"
    return "code" if name in _CODES else "id" if name in _IDS else "prose" if name in _PROSE else "text"


def _checked_field(file: _File, place: str, ours: str, value: Any, *, kind: str, entry: frozenset[str]) -> _Field:
    if isinstance(value, str):
        value = {"from": value}
    table = _table_of(file, place, value, _RULE)
    if ("from" in table) == ("constant" in table):
        file.refuse(place, "needs either `from`, an expression, or `constant`")
        return _Field(kind=kind)
    exponent, values = table.get("exponent"), table.get("values")
    if exponent is not None and (kind != "amount" or not isinstance(exponent, int) or not 0 <= exponent <= 6):
        file.refuse(f"{place}.exponent", "must be a whole number from 0 to 6, and of an amount")
    if values is not None and not isinstance(values, dict):
        file.refuse(f"{place}.values", "must be a table")
    layout, zone = _checked_clock(file, place, table, kind)
    source = None
    if "from" in table:
        source, paths = file.expression(place, table["from"], entry, ours)
        file.consume(paths, ours)
        if kind in {"any", "texts"}:
            file.whole |= paths
    return _Field(
        kind=kind,
        source=source,
        constant=table.get("constant"),
        default=table.get("default"),
        values=cast(dict[str, Any], values) if isinstance(values, dict) else None,
        exponent=exponent if isinstance(exponent, int) else None,
        absolute=bool(table.get("absolute")),
        position=bool(table.get("position")),
        layout=layout,
        zone=zone,
        decimal_comma=bool(table.get("decimal_comma")),
    )


def _checked_clock(file: _File, place: str, table: Mapping[str, Any], kind: str) -> tuple[str | None, ZoneInfo | None]:
    """How a moment is written, and in which time zone where it has no offset."""
    layout, name = table.get("format"), table.get("time_zone")
    zone = None
    if layout is not None and (kind != "moment" or not isinstance(layout, str) or not _is_layout(layout)):
        file.refuse(f"{place}.format", "must be a format of strptime that has day, month and year, and of a date and time")
    if name is not None:
        try:
            zone = ZoneInfo(name) if kind == "moment" and isinstance(name, str) else None
        except (ZoneInfoNotFoundError, ValueError, OSError):
            zone = None
        if zone is None:
            file.refuse(f"{place}.time_zone", "must be a name of the IANA database, such as Europe/Berlin, and of a date and time")
    return layout if isinstance(layout, str) else None, zone


def _is_layout(text: str) -> bool:
    """Whether a date that is written in this format is read as the same date."""
    day = datetime(2001, 2, 3, 16, 5, 6, tzinfo=UTC)
    try:
        return len(text) <= MAX_FORMAT_CHARACTERS and datetime.strptime(day.strftime(text), text).date() == day.date()  # noqa: DTZ007  # a date
    except (ValueError, re.error):
        return False


@dataclass(frozen=True, slots=True)
class _Mapping:
    """A checked file at work."""

    order: _Table
    rest: _Table | None
    updated_at: Expression
    canceled_when: Expression
    canceled_reason: str
    refusals: tuple[_Refusal, ...]

    def standing(self, root: Source) -> Standing | None:
        scope = Scope(root.value, root.value)
        reference = _Builder(Reading()).value(self.order.members["channel_reference"], "channel_reference", scope, 0)
        if reference is None:
            return None
        updated_at = Source(Reading(), self.updated_at.value(scope)).moment()
        return Standing(str(reference), updated_at, self.canceled_reason if _holds(self.canceled_when, scope) else None)

    def channel(self, root: Source) -> str | None:
        rule = self.order.members.get("channel")
        return None if rule is None else _Builder(root.reading).value(rule, "channel", Scope(root.value, root.value), 0)

    def refusal(self, root: Source) -> Reason | None:
        scope = Scope(root.value, root.value)
        return next((Reason(each.field, each.reason) for each in self.refusals if _holds(each.when, scope)), None)

    def build(self, root: Source, channel: str) -> OrderPlaced | None:
        scope = Scope(root.value, root.value)
        builder = _Builder(root.reading)
        if builder.value(self.order.members["currency"], "currency", scope, 0) is None:
            Source(root.reading, None, _named("currency", self.order.members["currency"])).required(None)
            return None
        found = builder.table(self.order, "", scope, 0, {"channel": channel})
        if found is None or root.reading.reasons:
            return None
        mapped = {discount.id for discount in found.get("discounts", ())}
        added = tuple(each for each in builder.discounts.all() if each.id not in mapped)
        arguments: dict[str, Any] = {**found, "discounts": (*found.get("discounts", ()), *added)}
        order = OrderPlaced(**arguments)
        return self._paid(order, builder, scope)

    def _paid(self, order: OrderPlaced, builder: "_Builder", scope: Scope) -> OrderPlaced | None:
        rest = order.total - sum(payment.amount for payment in order.payments)
        if self.rest is None or rest <= 0:
            return order
        found = builder.table(self.rest, "payments", scope, len(order.payments), {"amount": rest})
        return None if found is None else msgspec.structs.replace(order, payments=(*order.payments, OrderPayment(**found)))


@dataclass(slots=True)
class _Builder:
    """Builds one order. `Source` reads the values, so that a mapped payload is checked as every other one."""

    reading: Reading
    discounts: Discounts = field(default_factory=Discounts)

    def table(self, table: _Table, place: str, scope: Scope, position: int, given: Mapping[str, Any]) -> dict[str, Any] | None:
        """The arguments of the table's class, with those `given`. None where there are none, or where a required one is missing."""
        found: dict[str, Any] = {}
        for name, part in table.members.items():
            value = self._member(part, f"{place}.{name}".lstrip("."), scope, position)
            if value is not None:
                found[name] = value
        if not found and not given:
            return None
        if table.cls is LineItem:
            self._complete(table, found, place, position, found.get("quantity"))
        if table.cls is ShippingLine:
            self._complete(table, found, place, position, 1)
        if table.cls is OrderPayment:
            found.setdefault("id", str(position + 1))
        found |= given
        complete = True
        for name in _required(table.cls):
            if name not in found:
                where = f"{place}.{name}".lstrip(".")
                if not any(reason.field.startswith(where) for reason in self.reading.reasons):
                    self.reading.refuse(_named(where, table.members.get(name)), "is required")
                complete = False
        return found if complete else None

    def value(self, rule: _Field, place: str, scope: Scope, position: int) -> Any:
        """What a rule gives."""
        found: Any = rule.constant if rule.source is None else rule.source.value(scope)
        source = Source(self.reading, found, _named(place, rule))
        if rule.values is not None and isinstance(found, str) and found:
            if found not in rule.values:
                source.refuse("is not one of the values that the mapping knows")
                return None
            source = replace(source, value=rule.values[found])
        read = self._read(rule, source)
        if read is None and rule.default is not None:
            read = "" if rule.default == "" else self._read(rule, replace(source, value=rule.default))
        return str(position + 1) if read is None and rule.position else read

    def _read(self, rule: _Field, source: Source) -> Any:
        match rule.kind:
            case "amount":
                amount = self._scaled(rule.exponent, self._with_point(rule, source)).amount()
                return abs(amount) if amount is not None and rule.absolute else amount
            case "quantity":
                return source.quantity()
            case "flag":
                return source.flag()
            case "moment":
                return source.moment(zone=rule.zone, layout=rule.layout)
            case "currency":
                return None if source.value is None else currency_of(source)
            case "country":
                return country_of(source)
            case "code":
                return source.identifier(MAX_CODE_CHARACTERS)
            case "id":
                return source.identifier()
            case "prose":
                return source.prose()
            case "texts":
                return tuple(text for each in source.values() if (text := each.text())) or None
            case _:
                return source.text()

    def _with_point(self, rule: _Field, source: Source) -> Source:
        """An amount that is written with a decimal comma. One with a point is refused: it may stand for thousands."""
        value = source.value
        if not rule.decimal_comma or not isinstance(value, str):
            return source
        if "." in value:
            source.refuse("must have a decimal comma, and no point")
            return replace(source, value=None)
        return replace(source, value=value.replace(",", "."))

    def _scaled(self, exponent: int | None, source: Source) -> Source:
        """An amount that the source gives in units of 10^-exponent."""
        if exponent is None or source.value is None:
            return source
        try:
            return replace(source, value=decimal_of(source.value).scaleb(-exponent))
        except NotAnAmount:
            return source  # it is refused where it is read

    def _member(self, part: Any, place: str, scope: Scope, position: int) -> Any:
        match part:
            case _Field():
                return self.value(part, place, scope, position)
            case _Table():
                if part.when is not None and not _holds(part.when, scope):
                    return None
                found = self.table(part, place, scope, position, {})
                return None if found is None else part.cls(**found)
            case [_Pairs(), *_]:
                return attributes_of(self._pairs(cast(list[_Pairs], part), place, scope))
            case [_Table(), *_]:
                return tuple(self._entries(cast(list[_Table], part), place, scope))
            case _:
                return {name: self.value(rule, place, scope, position) for name, rule in cast(dict[str, _Field], part).items()}

    def _entries(self, tables: list[_Table], place: str, scope: Scope) -> Iterator[Any]:
        position = 0
        for table in tables:
            for entry in self._each(table.each, place, scope):
                if table.when is not None and not _holds(table.when, entry):
                    continue
                found = self.table(table, f"{place}.{position}", entry, position, {})
                if found is not None:
                    yield table.cls(**found)
                    position += 1

    def _pairs(self, parts: list[_Pairs], place: str, scope: Scope) -> Iterator[tuple[Source, str | None, Source]]:
        for part in parts:
            for position, entry in enumerate(self._each(part.each, place, scope)):
                value: Any = part.value.constant if part.value.source is None else part.value.source.value(entry)
                source = Source(self.reading, value, _named(place, part.value))
                yield source, self.value(part.name, place, entry, position), source

    def _each(self, each: Expression | None, place: str, scope: Scope) -> Iterator[Scope]:
        """The entry at hand, or those that an expression finds: one or a list."""
        if each is None:
            yield scope
            return
        found = each.value(scope)
        listed: Any = cast(Any, found) if isinstance(found, list) or found is None else [found]
        for entry in Source(self.reading, listed, f"{place} ({each.text})").values():
            yield scope.of(entry.value)

    def _complete(self, table: _Table, found: dict[str, Any], place: str, position: int, quantity: int | None) -> None:
        """Fill in the total and what rounds a line, and name what lies between the subtotal and the total."""
        found.setdefault("line_id" if table.cls is LineItem else "id", str(position + 1))
        reduction: dict[str, Any] = found.pop("reduction", {})
        subtotal: int | None = found.pop("subtotal", None)
        priced = "unit_price" if table.cls is LineItem else "price"
        price: int | None = found.get(priced)
        if price is None or not quantity:
            if quantity == 0:
                self.reading.refuse(f"{place}.quantity", "is 0")
            return
        shares: list[DiscountShare] = list(found.get("discounts", ()))
        gross, total = price * quantity if subtotal is None else subtotal, found.get("total")
        if total is not None and subtotal is None and 0 < total - gross < quantity:
            gross = total  # the unit price was rounded down
        if gross != price * quantity:
            if abs(gross - price * quantity) >= quantity:
                self.reading.refuse(f"{place}.{priced}", f"{quantity} x {price} is {quantity * price}, the line says {gross}")
                return
            found[priced], rounding = unit_price_of(gross, quantity)
            shares += self.discounts.rounding(rounding)
        off = gross - sum(share.amount for share in found.get("discounts", ()))
        if total is not None and off > total:
            if reduction:
                code, kind = reduction.get("code"), reduction.get("kind") or "other"
                title = reduction.get("title") or "Discount"
                name = next((each.id for each in self.discounts.all() if (each.title, each.code) == (title, code)), None)
                name = name or self.discounts.add(f"reduction-{len(self.discounts.all()) + 1}", title, kind, code)
                shares += self.discounts.share(name, off - total)
            elif off - total < quantity or off - total == 1:
                shares += self.discounts.rounding(off - total)
        found["total"] = off if total is None else total
        found["discounts"] = tuple(shares)


@cache
def _required(cls: type[Any]) -> tuple[str, ...]:
    """The fields of a class that have no default."""
    return tuple(
        info.name for info in msgspec.structs.fields(cls) if info.default is msgspec.NODEFAULT and info.default_factory is msgspec.NODEFAULT
    )


def _holds(when: Expression, scope: Scope) -> bool:
    return when.value(scope) not in (None, False, "", [], {})


def _named(place: str, rule: Any) -> str:
    """Our field, and where it should have come from."""
    return f"{place} ({rule.source.text})" if isinstance(rule, _Field) and rule.source is not None else place
