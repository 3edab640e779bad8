// A shop's program, written from the published contract alone: places the order on standard input, follows it until it is completed, and
// validates every record it sends or reads against the published schemas. Prints each status as JSON.
// Environment: KAFKA_BOOTSTRAP_SERVERS, CHANNEL_PASSWORD, DOWNSTREAM_PASSWORD, PUBLISHED (the folder).
import { readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";
import Ajv2020 from "ajv/dist/2020.js";
import addFormats from "ajv-formats";
import { Kafka, logLevel } from "kafkajs";
import { v5 } from "uuid";

const { KAFKA_BOOTSTRAP_SERVERS, CHANNEL_PASSWORD, DOWNSTREAM_PASSWORD, PUBLISHED } = process.env;
const contract = JSON.parse(readFileSync(join(PUBLISHED, "asyncapi.json")));
const ajv = addFormats(new Ajv2020({ strict: false }));
const schemas = new Map(
  readdirSync(join(PUBLISHED, "schemas")).map((file) => [
    file.replace(/\.json$/, ""),
    ajv.compile(JSON.parse(readFileSync(join(PUBLISHED, "schemas", file)))),
  ]),
);

function check(type, message) {
  const valid = schemas.get(type);
  if (!valid(message)) throw new Error(`${type}: ${ajv.errorsText(valid.errors)}`);
}

function connect(username, password) {
  const sasl = password ? { mechanism: "scram-sha-512", username, password } : undefined;
  return new Kafka({ clientId: `outsider-${username}`, brokers: [KAFKA_BOOTSTRAP_SERVERS], sasl, ssl: false, logLevel: logLevel.ERROR });
}

const order = JSON.parse(readFileSync(0));
check("oms.channel.OrderPlaced.v2", order);
const { namespace, separator } = contract.info["x-order-id"];
const key = v5(`${order.channel}${separator}${order.channel_reference}`, namespace);

const consumer = connect("downstream", DOWNSTREAM_PASSWORD).consumer({ groupId: "oms.downstream.javascript" });
await consumer.connect();
await consumer.subscribe({ topic: "oms.order-status-changes", fromBeginning: true });
const completed = new Promise((resolve, reject) => {
  consumer.on(consumer.events.CRASH, ({ payload }) => reject(payload.error));
  consumer.run({
    eachMessage: async ({ message }) => {
      const type = message.headers.ce_type.toString();
      const changed = JSON.parse(message.value);
      check(type, changed);
      if (changed.channel !== order.channel || changed.channel_reference !== order.channel_reference) return;
      console.log(JSON.stringify({ key: message.key.toString(), ...changed }));
      if (changed.status === "completed") resolve();
    },
  });
});

const producer = connect(`channel:${order.channel}`, CHANNEL_PASSWORD).producer({ allowAutoTopicCreation: false });
await producer.connect();
await producer.send({
  topic: `oms.channel.orders.${order.channel}`,
  acks: -1,
  messages: [
    {
      key,
      value: JSON.stringify(order),
      headers: { ce_specversion: "1.0", ce_type: "oms.channel.OrderPlaced.v2", ce_source: "/outsider/javascript", ce_id: key },
    },
  ],
});
await producer.disconnect();
await completed;
await consumer.disconnect();
process.exit(0);
