package files

import (
	"bytes"
	"context"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestSweep: only a whole journal of this user's whose transfer was over long ago is removed.
func TestSweep(t *testing.T) {
	dir := t.TempDir()
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	const first, over = `{"version":1}` + "\n", `{"over":true}` + "\n"
	const begun = `{"begun":"x","local":"x.part"}` + "\n"
	now := time.Now()
	long := now.Add(-2 * lastCall)
	put := func(name, text string, at time.Time) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(path, at, at); err != nil {
			t.Fatal(err)
		}
		return path
	}
	removed := []string{
		put(journalPrefix+"0000000000000001", first+over, long),
		put(journalPrefix+"0000000000000002", first+begun+over, long),
	}
	stays := map[string]string{
		"over a moment ago":     put(journalPrefix+"0000000000000010", first+over, now),
		"from tomorrow":         put(journalPrefix+"0000000000000011", first+over, now.Add(24*time.Hour)),
		"not over":              put(journalPrefix+"0000000000000012", first+begun, long),
		"gone on with":          put(journalPrefix+"0000000000000013", first+over+begun, long),
		"with a torn end":       put(journalPrefix+"0000000000000014", first+over+`{"beg`, long),
		"not a journal":         put(journalPrefix+"0000000000000015", "shopping list\n", long),
		"empty":                 put(journalPrefix+"0000000000000016", "", long),
		"no first line":         put(journalPrefix+"0000000000000017", over, long),
		"another name":          put(journalPrefix+"0000000000000018x", first+over, long),
		"a name in capitals":    put(journalPrefix+"000000000000001A", first+over, long),
		"no journal by name":    put("notes", first+over, long),
		"with two names":        put(journalPrefix+"0000000000000020", first+over, long),
		"the second name":       filepath.Join(dir, "second"),
		"a link":                filepath.Join(dir, journalPrefix+"0000000000000021"),
		"what the link says":    put("linked", first+over, long),
		"a directory":           filepath.Join(dir, journalPrefix+"0000000000000022"),
		"of a receiver at work": put(journalPrefix+"0000000000000023", first+over, long),
	}
	if err := os.Link(stays["with two names"], stays["the second name"]); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("linked", stays["a link"]); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(stays["a directory"], 0o755); err != nil {
		t.Fatal(err)
	}
	if os.Geteuid() == 0 {
		stays["somebody else's"] = put(journalPrefix+"0000000000000024", first+over, long)
		if err := os.Chown(stays["somebody else's"], 12345, 12345); err != nil {
			t.Fatal(err)
		}
	}
	works, err := os.OpenFile(stays["of a receiver at work"], os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer works.Close()
	if !lock(works) {
		t.Fatal("no lock")
	}
	before, _ := os.ReadFile(stays["not a journal"])
	sweep(root, now)
	for what, path := range stays {
		if _, err := os.Lstat(path); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	for _, path := range removed {
		if _, err := os.Lstat(path); err == nil {
			t.Errorf("%s is there", filepath.Base(path))
		}
	}
	if after, err := os.ReadFile(stays["not a journal"]); err != nil || !bytes.Equal(before, after) {
		t.Errorf("a file was changed: %q, %v", after, err)
	}
}

// deadly is a connection that kills the receiver when it says that all is there.
type deadly struct {
	net.Conn
	kill func()
}

func (c *deadly) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if bytes.Contains(b[:n], []byte{byte(kindFinish), 0, 0, 0, 4}) {
		c.kill()
	}
	return n, err
}

// TestKilledAtTheEnd: the journal of a receiver that is killed when all is there stays while the
// sender may come again, and the next receiver removes it after that.
func TestKilledAtTheEnd(t *testing.T) {
	w := newWorld(t)
	w.to = filepath.Join(t.TempDir(), "in")
	if err := os.Mkdir(w.to, 0o755); err != nil {
		t.Fatal(err)
	}
	w.write("x", []byte("all of it"))
	child := w.receiver(io.Discard)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	src, err := Open(ctx, []string{filepath.Join(w.from, "x")})
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	_, _ = Send(ctx, src, SendConfig{ // whether it heard so is not the question
		Dial: func(context.Context) (net.Conn, error) {
			c, err := dialSoon(ctx, filepath.Join(filepath.Dir(w.to), "socket"))
			return &deadly{c, func() { child.Process.Kill(); child.Wait() }}, err
		},
		Patience: time.Minute,
		Tell: func(e Event) {
			if e.Type == Interrupted {
				cancel()
			}
		},
	})
	w.same("x", "x")
	journals := func() (list []string) {
		list, err := filepath.Glob(filepath.Join(w.to, journalPrefix+"*"))
		if err != nil {
			t.Fatal(err)
		}
		return list
	}
	left := journals()
	if len(left) != 1 {
		t.Fatalf("the killed receiver left %q", left)
	}
	if b, err := os.ReadFile(left[0]); err != nil || !strings.HasSuffix(string(b), `{"over":true}`+"\n") {
		t.Fatalf("%q, %v", b, err)
	}
	receive := func() {
		ended, end := context.WithCancel(t.Context())
		end()
		var n network
		if err := Receive(ended, n.listen(), ReceiveConfig{Dir: w.to, Patience: time.Minute}); err == nil {
			t.Fatal("received what nobody sent")
		}
	}
	receive()
	if len(journals()) != 1 {
		t.Error("removed while the sender may come again")
	}
	old := time.Now().Add(-lastCall - time.Second)
	if err := os.Chtimes(left[0], old, old); err != nil {
		t.Fatal(err)
	}
	receive()
	if list := journals(); len(list) != 0 {
		t.Errorf("%q stays", list)
	}
}
