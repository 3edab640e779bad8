// A shop's program, written from the published contract alone: places the order on standard input, follows it until it is completed, and
// validates every record it sends or reads against the published schemas. Prints each status as JSON.
// Environment: KAFKA_BOOTSTRAP_SERVERS, CHANNEL_PASSWORD, DOWNSTREAM_PASSWORD, PUBLISHED (the folder).
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"os"
	"path/filepath"

	"github.com/google/uuid"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl/scram"
)

const placed = "oms.channel.OrderPlaced.v2"

type status struct {
	Key              string `json:"key"`
	Channel          string `json:"channel"`
	ChannelReference string `json:"channel_reference"`
	Sequence         int    `json:"sequence"`
	Status           string `json:"status"`
	Packages         []any  `json:"packages"`
}

func main() {
	if err := run(); err != nil {
		log.Fatal(err)
	}
}

func run() error {
	order, err := io.ReadAll(os.Stdin)
	if err != nil {
		return err
	}
	if err := check(placed, order); err != nil {
		return err
	}
	var named status
	if err := json.Unmarshal(order, &named); err != nil {
		return err
	}
	key, err := orderID(named.Channel, named.ChannelReference)
	if err != nil {
		return err
	}
	consumer, err := connect("downstream", os.Getenv("DOWNSTREAM_PASSWORD"), kgo.ConsumerGroup("oms.downstream.go"),
		kgo.ConsumeTopics("oms.order-status-changes"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		return err
	}
	defer consumer.Close()
	producer, err := connect("channel:"+named.Channel, os.Getenv("CHANNEL_PASSWORD"))
	if err != nil {
		return err
	}
	defer producer.Close()
	record := &kgo.Record{Topic: "oms.channel.orders." + named.Channel, Key: []byte(key), Value: order, Headers: []kgo.RecordHeader{
		{Key: "ce_specversion", Value: []byte("1.0")}, {Key: "ce_type", Value: []byte(placed)},
		{Key: "ce_source", Value: []byte("/outsider/go")}, {Key: "ce_id", Value: []byte(key)},
	}}
	if err := producer.ProduceSync(context.Background(), record).FirstErr(); err != nil {
		return err
	}
	return follow(consumer, named)
}

func follow(consumer *kgo.Client, order status) error {
	for {
		fetches := consumer.PollFetches(context.Background())
		if err := fetches.Err(); err != nil {
			return err
		}
		for _, record := range fetches.Records() {
			if err := check(header(record, "ce_type"), record.Value); err != nil {
				return err
			}
			changed := status{}
			if err := json.Unmarshal(record.Value, &changed); err != nil {
				return err
			}
			if changed.Channel != order.Channel || changed.ChannelReference != order.ChannelReference {
				continue
			}
			changed.Key = string(record.Key)
			line, err := json.Marshal(changed)
			if err != nil {
				return err
			}
			fmt.Println(string(line))
			if changed.Status == "completed" {
				return nil
			}
		}
	}
}

func connect(user, password string, options ...kgo.Opt) (*kgo.Client, error) {
	options = append(options, kgo.SeedBrokers(os.Getenv("KAFKA_BOOTSTRAP_SERVERS")))
	if password != "" {
		options = append(options, kgo.SASL(scram.Auth{User: user, Pass: password}.AsSha512Mechanism()))
	}
	return kgo.NewClient(options...)
}

func header(record *kgo.Record, name string) string {
	for _, header := range record.Headers {
		if header.Key == name {
			return string(header.Value)
		}
	}
	return ""
}

func orderID(channel, reference string) (string, error) {
	text, err := os.ReadFile(filepath.Join(os.Getenv("PUBLISHED"), "asyncapi.json"))
	if err != nil {
		return "", err
	}
	var contract struct {
		Info struct {
			OrderID struct{ Namespace, Separator string } `json:"x-order-id"`
		}
	}
	if err := json.Unmarshal(text, &contract); err != nil {
		return "", err
	}
	namespace, err := uuid.Parse(contract.Info.OrderID.Namespace)
	return uuid.NewSHA1(namespace, []byte(channel+contract.Info.OrderID.Separator+reference)).String(), err
}

var compiled = map[string]*jsonschema.Schema{}

func check(kind string, value []byte) error {
	if compiled[kind] == nil {
		compiler := jsonschema.NewCompiler()
		compiler.AssertFormat()
		schema, err := compiler.Compile(filepath.Join(os.Getenv("PUBLISHED"), "schemas", kind+".json"))
		if err != nil {
			return err
		}
		compiled[kind] = schema
	}
	message, err := jsonschema.UnmarshalJSON(bytes.NewReader(value))
	if err != nil {
		return err
	}
	if err := compiled[kind].Validate(message); err != nil {
		return fmt.Errorf("%s: %w", kind, err)
	}
	return nil
}
