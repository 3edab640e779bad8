"""The commands that other services' events mean for returns. Pure, and safe to repeat."""

from collections.abc import Callable, Iterator

from oms_contracts.message import Value
from oms_contracts.orders import OrderCompleted
from oms_contracts.payments import RefundFailed, RefundSettled

from oms_returns.commands import Command, OpenReturnWindow, RecordRefund, RecordRefundFailure


def on_order_completed(event: OrderCompleted) -> Iterator[Command]:
    yield OpenReturnWindow(order_id=event.order_id, currency=event.currency, lines=event.lines, completed_at=event.at)


def on_refund_settled(event: RefundSettled) -> Iterator[Command]:
    yield RecordRefund(order_id=event.order_id, return_id=event.refund_id, amount=event.amount)


def on_refund_failed(event: RefundFailed) -> Iterator[Command]:
    yield RecordRefundFailure(order_id=event.order_id, return_id=event.refund_id, owed=event.request_id != "")


POLICIES: dict[type[Value], Callable[..., Iterator[Command]]] = {
    OrderCompleted: on_order_completed,
    RefundSettled: on_refund_settled,
    RefundFailed: on_refund_failed,
}
