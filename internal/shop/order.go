package shop

import (
	"encoding/json"
	"fmt"

	"github.com/nats-io/nats.go"
)

type order struct {
	ID       string `json:"order_id"`
	Customer string `json:"customer"`
	Region   string `json:"region"`
	Currency string `json:"currency"`
	Lines    []line `json:"lines"`
	Total    int    `json:"total_cents"`
	Status   string `json:"status"`
	Note     string `json:"note,omitempty"`
	Trace    string `json:"-"`
}

type line struct {
	SKU      string `json:"sku"`
	Name     string `json:"name"`
	Quantity int    `json:"quantity"`
	Cents    int    `json:"unit_cents"`
}

func regions() []string { return []string{"north", "south", "east", "west"} }

func goods() []string {
	return []string{"desk lamp", "kettle", "teapot, blue", "bicycle bell", "notebook A5", "garden hose 20 m", "café table", "wool socks", "keyboard", "candle"}
}

func (s *Shop) newOrder() *order {
	o := &order{
		ID:       fmt.Sprintf("A-%08d", s.orders),
		Customer: fmt.Sprintf("customer-%05d@example.com", s.random.IntN(20_000)),
		Region:   regions()[s.random.IntN(len(regions()))],
		Currency: "EUR",
		Trace:    fmt.Sprintf("%016x%016x", s.random.Uint64(), s.random.Uint64()),
	}
	for range 1 + s.random.IntN(4) {
		n := s.random.IntN(len(goods()))
		l := line{SKU: fmt.Sprintf("SKU-%04d", n*37), Name: goods()[n], Quantity: 1 + s.random.IntN(3), Cents: 199 + s.random.IntN(9_000)}
		o.Lines = append(o.Lines, l)
		o.Total += l.Quantity * l.Cents
	}
	return o
}

// events are what happens to the order: it is placed, and unless the customer thinks better of it, paid.
func (o *order) events() []*nats.Msg {
	statuses := []string{"placed", "paid"}
	if o.Total%11 == 0 {
		statuses = []string{"placed", "cancelled"}
	}
	var events []*nats.Msg
	for _, status := range statuses {
		o.Status = status
		m := &nats.Msg{Subject: "orders." + o.Region + "." + status, Data: o.encode(), Header: nats.Header{}}
		m.Header.Set("Nats-Msg-Id", o.ID+"/"+status)
		m.Header.Set("traceparent", "00-"+o.Trace+"-00f067aa0ba902b7-01")
		m.Header.Set("Content-Type", "application/json")
		events = append(events, m)
	}
	return events
}

func (o *order) email() *nats.Msg {
	return &nats.Msg{Subject: "emails." + o.Region, Data: o.encode()}
}

func (o *order) encode() []byte {
	p, err := json.Marshal(o)
	if err != nil {
		panic(err) // an order has no field that JSON could refuse
	}
	return p
}
