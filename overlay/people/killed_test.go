package people

import (
	"crypto/rand"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"os"
	"os/exec"
	"testing"
	"time"

	"anodenet/anode"
	"anodenet/anode/wire"
	"anodenet/overlay/book"
	"anodenet/overlay/mono"
	"anodenet/overlay/store"
)

// childVariable has this test's binary let guests in, with the state in the directory in it.
const childVariable = "PEOPLE_TEST_CHILD"

func TestMain(m *testing.M) {
	if dir := os.Getenv(childVariable); dir != "" {
		if err := letGuestsIn(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// opened is a Core with a state on the disk.
type opened struct {
	store *store.Store
	book  *book.Book
	core  *Core
}

var killedNow = Now{start, mono.At(time.Hour)}

func openDir(dir string) (o opened, err error) {
	if o.store, err = store.Open(dir); err != nil {
		return o, err
	}
	self, err := anode.AddressFromBytes(mustRead(dir + "/self"))
	if err != nil {
		return o, err
	}
	if o.book, _, err = book.Open(self, o.store, nil); err != nil {
		return o, err
	}
	var problems []error
	o.core, problems, err = New(Config{
		Self: self, Book: o.book, Name: func() string { return "a" }, Services: func() []Service { return nil },
		Secret: func() (s [32]byte) { return s }, Policy: func() Policy { return FromAll },
		Found:  func(anode.Address) []wire.Endpoint { return nil },
		Random: func(b []byte) { rand.Read(b) },
	}, killedNow)
	if err == nil && len(problems) > 0 {
		err = problems[0]
	}
	return o, err
}

func mustRead(path string) []byte {
	b, _ := os.ReadFile(path)
	return b
}

// letGuestsIn issues invitations for three and has twenty guests come with each at once, for ever.
func letGuestsIn(dir string) error {
	o, err := openDir(dir)
	if err != nil {
		return err
	}
	for {
		_, token, err := o.core.Invite(killedNow, Invite{Uses: 3})
		if err != nil {
			return err
		}
		id, _ := token.Keys(o.core.cfg.Self)
		for n := range 20 {
			a := fakeAddress()
			o.core.Up(killedNow, Up{Address: a, Invitation: id, Issued: true, Endpoint: "udp:192.0.2.1:1"})
			o.core.Heard(killedNow, Heard{From: a, Msg: wire.TellMsg{ID: wire.TellID{byte(n)}, Kind: wire.TellAsk}})
			o.core.Take()
		}
		fmt.Println("full")
		if err := errors.Join(revokeOld(o.core), sayYes(o.core)); err != nil {
			return err
		}
	}
}

// sayYes accepts somebody who was introduced, and takes that back, which arrives.
func sayYes(c *Core) error {
	a := fakeAddress()
	k := Key(a.X())
	x := c.begun(killedNow)
	c.requests.put(x, k, request{Address: a, Name: "b", By: []anode.Address{fakeAddress()}, Since: start})
	err := x.commit()
	if err == nil {
		_, err = c.Accept(killedNow, a, "")
	}
	if err == nil {
		_, err = c.Withdraw(killedNow, a)
	}
	for out := range c.outbox.sending {
		if out.to == k {
			c.Told(killedNow, a, wire.ToldMsg{ID: out.id})
		}
	}
	c.Take()
	return err
}

// revokeOld keeps few invitations.
func revokeOld(c *Core) error {
	list := c.Invitations(killedNow)
	if len(list) < 4 {
		return nil
	}
	_, err := c.Revoke(killedNow, list[0].ID)
	return err
}

// TestKilled kills the issuer at any moment of 100 runs: the uses that are spent, the guests that are noted, and the
// peers that were let in agree; and who was accepted waits for no decision.
func TestKilled(t *testing.T) {
	dir := t.TempDir()
	a := fakeAddress()
	if err := os.WriteFile(dir+"/self", a[:], 0o600); err != nil {
		t.Fatal(err)
	}
	r := mathrand.New(mathrand.NewPCG(14, 14))
	spent := 0
	for range 100 {
		child := exec.Command(os.Args[0])
		child.Env = append(os.Environ(), childVariable+"="+dir)
		child.Stderr = os.Stderr
		if err := child.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Duration(r.IntN(60_000)) * time.Microsecond)
		child.Process.Kill()
		child.Wait()
		spent = checkKilled(t, dir)
	}
	t.Logf("%d uses are spent", spent)
	if spent == 0 {
		t.Error("nobody was let in: every child was killed too early")
	}
}

// checkKilled opens what a child left.
func checkKilled(t *testing.T, dir string) (spent int) {
	t.Helper()
	o, err := openDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer o.store.Close()
	peers, guests, people := map[anode.Address]bool{}, 0, 0
	for _, e := range o.book.Entries() {
		peers[e.Address] = true
	}
	for id, v := range o.core.invites.issued.m {
		spent += v.Of - v.Uses
		for n := range v.Of - v.Uses {
			g, ok := o.core.invites.guests.m[guestKey{id, uint32(n)}]
			if !ok || !peers[g.Address] {
				t.Errorf("use %d of %v let nobody in: %v, added: %v", n, id, ok, peers[g.Address])
			}
			guests++
		}
	}
	for k, p := range o.core.people.m {
		if p.Guest && p.Let {
			people++
		}
		if _, listed := o.core.requests.m[k]; listed && p.asks() {
			t.Errorf("%s was accepted, and waits for a decision", p.Address.ID())
		}
		if p.gone() && !o.core.outbox.holdsBye(k, killedNow) {
			t.Errorf("%s is not told that a yes was taken back", p.Address.ID())
		}
		if p.asks() { // the next child has room
			if _, err := o.core.Withdraw(killedNow, p.Address); err != nil {
				t.Error(err)
			}
		}
	}
	if guests != len(o.core.invites.guests.m) {
		t.Errorf("%d uses, %d guests", guests, len(o.core.invites.guests.m))
	}
	if people != len(peers) {
		t.Errorf("%d records of people, %d peers", people, len(peers))
	}
	return spent
}
