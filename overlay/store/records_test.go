package store

import (
	"fmt"
	"reflect"
	"testing"

	"anodenet/anode"
	"anodenet/overlay/book"
)

// Records and own devices survive a restart of the program, in whatever number, and the file that has them is sound.
func TestRecords(t *testing.T) {
	dir := t.TempDir()
	s := mustOpen(t, dir)
	mine := book.Entry{Address: newAddress(), Added: true, Mine: true, Via: []anode.Address{newAddress(), newAddress()}, Since: when}
	var records []book.Record
	for i := range 500 {
		records = append(records, book.Record{Table: "invites", Key: fmt.Appendf(nil, "%04d", i), Value: make([]byte, i)})
	}
	records[0].Value = []byte{1}
	if err := s.Write(book.Batch{Put: []book.Entry{mine}, Records: append(records, book.Record{Table: "joins", Key: []byte("x"), Value: []byte("y")})}); err != nil {
		t.Fatal(err)
	}
	s.Close()
	for range 2 {
		s = mustOpen(t, dir)
		if s.Repaired() != nil {
			t.Fatal(s.Repaired())
		}
		got, err := s.Records("invites")
		if err != nil || len(got) != len(records) || !reflect.DeepEqual(got[7], records[7]) {
			t.Fatalf("%d records, %v", len(got), err)
		}
		if c, err := s.Load(); err != nil || !reflect.DeepEqual(c.Entries, []book.Entry{mine}) {
			t.Errorf("%+v, %v", c.Entries, err)
		}
		s.Close()
	}
	m, err := Read(dir)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := m.Records("joins"); err != nil || len(got) != 1 {
		t.Errorf("%+v, %v", got, err)
	}
}
