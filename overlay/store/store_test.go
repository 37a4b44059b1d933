package store

import (
	"bytes"
	"crypto/ecdh"
	"crypto/rand"
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"

	"anodenet/anode"
	"anodenet/anode/wire"
	"anodenet/overlay/book"
)

func newAddress() anode.Address {
	k, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		panic(err)
	}
	return anode.NewAddress(0, k.PublicKey())
}

var when = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

func mustOpen(t *testing.T, dir string) *Store {
	t.Helper()
	s, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func TestReopen(t *testing.T) {
	dir := t.TempDir()
	s := mustOpen(t, dir)
	if _, err := Open(dir); !errors.Is(err, ErrStateBusy) {
		t.Errorf("a second one: %v", err)
	}
	ep := wire.UDP(netip.MustParseAddrPort("[2001:db8::1]:8737"))
	entries := []book.Entry{
		{Address: newAddress(), Name: "north", Endpoints: []wire.Endpoint{ep}, Hosts: []book.Host{{Name: "home.example.org", Port: 8737}}, Since: when, Added: true, LAN: true},
		{Address: newAddress(), Since: when, Added: true, Blocked: true},
		{Address: newAddress(), Blocked: true},
	}
	slices.SortFunc(entries, func(a, b book.Entry) int { return bytes.Compare(a.Address[:], b.Address[:]) })
	gone := newAddress()
	learned := map[anode.Address][]wire.Endpoint{entries[0].Address: {ep}}
	err := errors.Join(
		s.Write(book.Batch{Put: append(entries, book.Entry{Address: gone, Added: true}), Learned: map[anode.Address][]wire.Endpoint{
			entries[0].Address: {ep}, entries[1].Address: {ep}, gone: {ep},
		}}),
		s.Write(book.Batch{Delete: []anode.Address{gone}, Learned: map[anode.Address][]wire.Endpoint{entries[1].Address: nil}}),
		s.PutMeta("peer-id", []byte{7}),
		s.Close(),
	)
	if err != nil {
		t.Fatal(err)
	}
	s = mustOpen(t, dir)
	c, err := s.Load()
	if err != nil || len(c.Problems) > 0 || !reflect.DeepEqual(c.Entries, entries) || !reflect.DeepEqual(c.Learned, learned) {
		t.Errorf("%v\ngot  %+v\nwant %+v", err, c, entries)
	}
	if v, err := s.Meta("peer-id"); err != nil || !bytes.Equal(v, []byte{7}) {
		t.Errorf("meta %v, %v", v, err)
	}
	if v, err := s.Meta("none"); err != nil || v != nil {
		t.Errorf("meta %v, %v", v, err)
	}
}

// raw puts a value as other versions, or a bad disk, may have left it.
func raw(t *testing.T, s *Store, bucket, key []byte, value string) {
	t.Helper()
	if err := s.db.Update(func(tx *bolt.Tx) error { return tx.Bucket(bucket).Put(key, []byte(value)) }); err != nil {
		t.Fatal(err)
	}
}

// One record that cannot be read costs neither the others nor the start.
func TestUnreadable(t *testing.T) {
	s := mustOpen(t, t.TempDir())
	good, later, other := newAddress(), newAddress(), newAddress()
	var zero anode.Address
	if err := s.Write(book.Batch{Put: []book.Entry{{Address: good, Added: true, Since: when}}}); err != nil {
		t.Fatal(err)
	}
	raw(t, s, bucketPeers, zero[:], `{"address":"`+zero.String()+`","blocked":true,"added":"2026-11-21T12:00:00Z"}`)
	raw(t, s, bucketPeers, []byte("short"), `{}`)
	raw(t, s, bucketPeers, other[:], `{"address":"`+good.String()+`","added":"2026-11-21T12:00:00Z"}`)
	raw(t, s, bucketPeers, later[:], `{"address":"`+later.String()+`","blocked":true,"endpoints":["quic 192.0.2.1:1"],"added":"2026-11-21T12:00:00Z"}`)
	raw(t, s, bucketEndpoints, good[:], `{`)
	raw(t, s, bucketEndpoints, []byte("short"), `[]`)
	b, report, err := book.Open(newAddress(), s, nil)
	if err != nil || len(report) != 6 {
		t.Fatalf("%v, %d reports: %v", err, len(report), report)
	}
	for _, problem := range report {
		if !errors.Is(problem, book.ErrRecord) {
			t.Error(problem)
		}
	}
	for a, want := range map[anode.Address]book.Standing{good: book.Added, later: book.Blocked, other: book.Stranger, zero: book.Stranger} {
		if got := b.Standing(a); got != want {
			t.Errorf("%s is %v, want %v", a, got, want)
		}
	}
}

// Records of the versions before standings were written.
func TestOldRecords(t *testing.T) {
	a := newAddress()
	for rest, want := range map[string]book.Entry{
		`"name":"north"`:                    {Name: "north", Added: true},
		`"blocked":false`:                   {Added: true},
		`"blocked":true,"name":"north"`:     {Name: "north", Added: true, Blocked: true},
		`"blocked":true`:                    {Blocked: true},
		`"standing":"stranger","name":""`:   {},
		`"blocked":true,"standing":"added"`: {Added: true, Blocked: true},
	} {
		got, problems, err := decodeEntry(a[:], []byte(`{"address":"`+a.String()+`","added":"2026-11-21T12:00:00Z",`+rest+`}`))
		want.Address, want.Since = a, when
		if err != nil || problems != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %+v, %v, %v", rest, got, problems, err)
		}
	}
}

func TestLogs(t *testing.T) {
	s := mustOpen(t, t.TempDir())
	next := 0
	values := func(n int) (list [][]byte) {
		for range n {
			next++
			list = append(list, fmt.Append(nil, next))
		}
		return list
	}
	for _, n := range []int{1, 0, 3, 7, 2, 30} {
		err := errors.Join(s.AppendLog("log", values(n), 5), s.AppendLog("other", [][]byte{{1}}, 9))
		if err != nil {
			t.Fatal(err)
		}
		for tail := range 8 {
			got, err := s.TailLog("log", tail)
			if err != nil || len(got) != min(tail, 5, next) {
				t.Fatalf("%d of %d: %s, %v", tail, next, got, err)
			}
			for i, v := range got {
				if want := fmt.Append(nil, next-len(got)+1+i); !bytes.Equal(v, want) {
					t.Errorf("the last %d of %d: %s", tail, next, got)
				}
			}
		}
	}
	if got, err := s.TailLog("none", 3); err != nil || got != nil {
		t.Error(got, err)
	}
}

// A book of many peers opens fast, and its verbs do not read the rest of it.
func TestManyPeers(t *testing.T) {
	s := mustOpen(t, t.TempDir())
	b := book.Batch{Learned: map[anode.Address][]wire.Endpoint{}}
	ep := wire.UDP(netip.MustParseAddrPort("192.0.2.1:8737"))
	for i := range 10_000 {
		a := newAddress()
		b.Put = append(b.Put, book.Entry{Address: a, Name: fmt.Sprintf("n%d", i), Endpoints: []wire.Endpoint{ep}, Since: when, Added: true})
		b.Learned[a] = []wire.Endpoint{ep, ep}
	}
	if err := s.Write(b); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	many, report, err := book.Open(newAddress(), s, nil)
	t.Logf("opened in %v", time.Since(start))
	if err != nil || len(report) > 0 || len(many.Entries()) != 10_000 {
		t.Fatal(err, report)
	}
	allocs := testing.AllocsPerRun(100, func() { many.Standing(b.Put[77].Address) })
	if allocs != 0 {
		t.Errorf("Standing allocates %v times", allocs)
	}
}

func FuzzEntry(f *testing.F) {
	a := newAddress()
	for _, e := range []book.Entry{
		{Address: a, Added: true, LAN: true, Since: when, Name: "north"},
		{Address: a, Blocked: true, Endpoints: []wire.Endpoint{wire.UDP(netip.MustParseAddrPort("192.0.2.1:1"))}},
		{Address: a, Added: true, Hosts: []book.Host{{Name: "home.example.org", Port: 1}}},
	} {
		v, err := encodeEntry(e)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(v)
	}
	f.Fuzz(func(t *testing.T, value []byte) {
		e, _, err := decodeEntry(a[:], value)
		if err != nil {
			return
		}
		again, err := encodeEntry(e)
		if err != nil {
			return // a year that JSON cannot have
		}
		back, problems, err := decodeEntry(a[:], again)
		if err != nil || problems != nil || back.Added != e.Added || back.Blocked != e.Blocked || back.LAN != e.LAN || back.Name != e.Name || !slices.Equal(back.Endpoints, e.Endpoints) || !slices.Equal(back.Hosts, e.Hosts) {
			t.Errorf("%+v became %+v, %v, %v", e, back, problems, err)
		}
	})
}

func FuzzLearned(f *testing.F) {
	a := newAddress()
	f.Add([]byte(`["udp 192.0.2.1:8737","tcp [2001:db8::1]:1"]`))
	f.Fuzz(func(t *testing.T, value []byte) {
		got, es, err := decodeLearned(a[:], value)
		if err == nil && (got != a || len(es) > book.MaxLearned) {
			t.Errorf("%v, %v", got, es)
		}
	})
}
