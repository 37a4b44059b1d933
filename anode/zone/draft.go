package zone

import (
	"fmt"
	"strconv"
	"time"
)

// Draft is what a zone file is made of.
type Draft struct {
	Name, Description string
	Contact           string // an e-mail address
	Revision          uint64
	TTL               time.Duration
	Relays            []Relay
}

// Append writes the file.
func (d Draft) Append(b []byte) []byte {
	for _, e := range [][2]string{
		{"n", d.Name}, {"d", d.Description}, {"c", d.Contact},
		{"r", strconv.FormatUint(d.Revision, 10)}, {"ttl", strconv.FormatInt(int64(d.TTL/time.Second), 10)},
	} {
		b = AppendEntry(b, e[0], e[1])
	}
	for i, r := range d.Relays {
		b = AppendEntry(b, fmt.Sprintf("%s%x", relayPrefix, i), r.String())
	}
	return b
}
