"""A consumer that prints every change of an order's public status. `python status_consumer.py`"""

import asyncio

from faststream import AckPolicy, FastStream
from faststream.kafka import KafkaBroker
from faststream.security import SASLScram512
from oms_contracts.tracking import OrderStatusChanged
from oms_kafka.settings import KafkaSettings, ssl_context

kafka = KafkaSettings()  # OMS_KAFKA_BOOTSTRAP_SERVERS, OMS_KAFKA_USERNAME, OMS_KAFKA_PASSWORD, OMS_KAFKA_CA_FILE, …
password = kafka.kafka_password.get_secret_value() if kafka.kafka_password else ""
security = SASLScram512(kafka.kafka_username, password, ssl_context(kafka)) if kafka.kafka_username else None
broker = KafkaBroker(kafka.kafka_bootstrap_servers, security=security, allow_auto_create_topics=False)
app = FastStream(broker)
latest: dict[str, int] = {}  # a real consumer keeps it in a table, in the transaction that applies the change


@broker.subscriber("oms.order-status-changes", group_id="oms.downstream", auto_offset_reset="earliest", ack_policy=AckPolicy.NACK_ON_ERROR)
async def apply(change: OrderStatusChanged) -> None:
    if change.sequence > latest.get(change.order_id, 0):  # a record may arrive twice
        latest[change.order_id] = change.sequence
        print(change.order_id, change.sequence, change.status, flush=True)


if __name__ == "__main__":
    asyncio.run(app.run())
