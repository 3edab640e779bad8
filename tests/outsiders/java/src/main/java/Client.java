import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import com.networknt.schema.JsonSchema;
import com.networknt.schema.JsonSchemaFactory;
import com.networknt.schema.SpecVersion;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.MessageDigest;
import java.time.Duration;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.UUID;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;

/**
 * A shop's program, written from the published contract alone: places the order on standard input, follows it until it is completed, and
 * validates every record it sends or reads against the published schemas. Prints each status as JSON.
 *
 * <p>Environment: KAFKA_BOOTSTRAP_SERVERS, CHANNEL_PASSWORD, DOWNSTREAM_PASSWORD, PUBLISHED (the folder).
 */
public final class Client {
    private static final String PLACED = "oms.channel.OrderPlaced.v2";
    private static final Path PUBLISHED = Path.of(System.getenv("PUBLISHED"));
    private static final ObjectMapper JSON = new ObjectMapper();
    private static final Map<String, JsonSchema> SCHEMAS = new HashMap<>();

    public static void main(String[] arguments) throws Exception {
        byte[] value = System.in.readAllBytes();
        check(PLACED, value);
        JsonNode order = JSON.readTree(value);
        String channel = order.get("channel").asText();
        String key = orderId(channel, order.get("channel_reference").asText());
        try (KafkaConsumer<String, byte[]> consumer =
                new KafkaConsumer<>(reading(), new StringDeserializer(), new ByteArrayDeserializer())) {
            consumer.subscribe(List.of("oms.order-status-changes"));
            try (KafkaProducer<String, byte[]> producer =
                    new KafkaProducer<>(of("channel:" + channel, "CHANNEL_PASSWORD"), new StringSerializer(), new ByteArraySerializer())) {
                ProducerRecord<String, byte[]> record = new ProducerRecord<>("oms.channel.orders." + channel, key, value);
                Map.of("ce_specversion", "1.0", "ce_type", PLACED, "ce_source", "/outsider/java", "ce_id", key)
                        .forEach((name, text) -> record.headers().add(name, text.getBytes(StandardCharsets.UTF_8)));
                producer.send(record).get();
            }
            follow(consumer, order);
        }
    }

    private static void follow(KafkaConsumer<String, byte[]> consumer, JsonNode order) throws IOException {
        while (true) {
            for (ConsumerRecord<String, byte[]> record : consumer.poll(Duration.ofSeconds(1))) {
                check(new String(record.headers().lastHeader("ce_type").value(), StandardCharsets.UTF_8), record.value());
                ObjectNode changed = (ObjectNode) JSON.readTree(record.value());
                if (!changed.get("channel").equals(order.get("channel"))
                        || !changed.get("channel_reference").equals(order.get("channel_reference"))) {
                    continue;
                }
                System.out.println(JSON.writeValueAsString(changed.put("key", record.key())));
                if (changed.get("status").asText().equals("completed")) {
                    return;
                }
            }
        }
    }

    private static Properties reading() {
        Properties properties = of("downstream", "DOWNSTREAM_PASSWORD");
        properties.put("group.id", "oms.downstream.java");
        properties.put("auto.offset.reset", "earliest");
        return properties;
    }

    private static Properties of(String user, String password) {
        Properties properties = new Properties();
        properties.put("bootstrap.servers", System.getenv("KAFKA_BOOTSTRAP_SERVERS"));
        String secret = System.getenv(password);
        if (secret != null && !secret.isEmpty()) {
            properties.put("security.protocol", "SASL_PLAINTEXT");
            properties.put("sasl.mechanism", "SCRAM-SHA-512");
            properties.put(
                    "sasl.jaas.config",
                    "org.apache.kafka.common.security.scram.ScramLoginModule required username=\"%s\" password=\"%s\";"
                            .formatted(user, secret));
        }
        return properties;
    }

    /** A UUID version 5 (RFC 9562). */
    private static String orderId(String channel, String reference) throws Exception {
        JsonNode made = JSON.readTree(PUBLISHED.resolve("asyncapi.json").toFile()).get("info").get("x-order-id");
        UUID namespace = UUID.fromString(made.get("namespace").asText());
        MessageDigest digest = MessageDigest.getInstance("SHA-1");
        digest.update(ByteBuffer.allocate(16)
                .putLong(namespace.getMostSignificantBits())
                .putLong(namespace.getLeastSignificantBits())
                .array());
        ByteBuffer hash = ByteBuffer.wrap(
                digest.digest((channel + made.get("separator").asText() + reference).getBytes(StandardCharsets.UTF_8)));
        long high = hash.getLong() & ~0xF000L | 0x5000L;
        long low = hash.getLong() & 0x3FFFFFFFFFFFFFFFL | 0x8000000000000000L;
        return new UUID(high, low).toString();
    }

    private static void check(String type, byte[] value) throws IOException {
        JsonSchema schema = SCHEMAS.get(type);
        if (schema == null) {
            String text = Files.readString(PUBLISHED.resolve("schemas").resolve(type + ".json"));
            schema = JsonSchemaFactory.getInstance(SpecVersion.VersionFlag.V202012).getSchema(text);
            SCHEMAS.put(type, schema);
        }
        var mistakes = schema.validate(JSON.readTree(value));
        if (!mistakes.isEmpty()) {
            throw new IllegalStateException(type + ": " + mistakes);
        }
    }
}
